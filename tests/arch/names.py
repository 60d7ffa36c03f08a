"""One name, one thing: what a reader finds by its name is what he looked for.

    PYTHONPATH=tests python -m arch.names [ROOT]

prints names that stand for two things, and files that the pages for newcomers name and that aren't
there; exits 1 then.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md")

# The same of two rooms: keys and commands of a pair; routes and commands that change something;
# answers of both processes in words.
_SAME_MODULES = {"__init__.py", "ha.py", "operating.py", "text.py"}
# A metric's, and what the data plane tells for it; an error class, and its stub.
_SAME_CLASSES = {"Histogram", "PlaneError"}
# Associated types have the names that their traits give.
_TRAITS_TYPES = {"Error", "Target"}

_CLASS = re.compile(r"^class (\w+)", re.MULTILINE)
_TYPE = re.compile(
    r"^\s*(?:pub(?:\([^)]*\))? )?(?:struct|enum|trait|type|union) ([A-Z]\w*)", re.MULTILINE
)
_NAMED = re.compile(r"(?<![\w./*-])((?:[\w.-]+/)*\w+\.(?:py|rs))\b")


def problems(root: Path) -> list[str]:
    """What is wrong, in words."""
    package, core = root / "python/mailweir", root / "rust/core/src"
    modules = ((file.name, file) for file in package.rglob("*.py"))
    classes = _defined(_CLASS, [*package.rglob("*.py"), *package.rglob("*.pyi")])
    types = _defined(_TYPE, core.rglob("*.rs"))
    return [
        *_twice(modules, _SAME_MODULES, root),
        *_twice(classes, _SAME_CLASSES, root),
        *_twice(types, _TRAITS_TYPES, root),
        *_absent(root),
    ]


def _defined(pattern: re.Pattern[str], files: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    for file in files:
        for name in pattern.findall(file.read_text()):
            yield name, file


def _twice(found: Iterable[tuple[str, Path]], same: set[str], root: Path) -> Iterator[str]:
    by_name: dict[str, list[str]] = defaultdict(list)
    for name, file in found:
        by_name[name].append(str(file.relative_to(root)))
    for name, files in sorted(by_name.items()):
        if len(files) > 1 and name not in same:
            yield f"{name} is two things: {', '.join(sorted(files))}"


def _absent(root: Path) -> Iterator[str]:
    there = [f"/{file.relative_to(root)}" for file in _sources(root)]
    for page in PAGES:
        for name in dict.fromkeys(_NAMED.findall((root / page).read_text())):
            if not any(file.endswith(f"/{name}") for file in there):
                yield f"{page} names {name}, which isn't there"


def _sources(root: Path) -> Iterator[Path]:
    for folder in ("python", "rust", "tests", "benches"):
        for suffix in ("py", "rs"):
            yield from (root / folder).rglob(f"*.{suffix}")


def main() -> int:
    """Prints and counts."""
    found = problems(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
    for problem in found:
        print(problem)
    if not found:
        print("each name is one thing")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
