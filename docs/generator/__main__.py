"""Write every page anew: `PYTHONPATH=docs python -m generator`, which is `make docs`."""

from generator.pages import FOLDER, PAGES


def main() -> None:
    """Writes."""
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())


if __name__ == "__main__":
    main()
