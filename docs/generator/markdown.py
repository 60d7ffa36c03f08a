"""What pages are put together of: Markdown as GitHub shows it. Pure."""

from collections.abc import Iterable, Sequence
from textwrap import fill, indent

_WIDTH = 100
_HEAD = "<!-- Made from the code by `make docs`: change it there. -->\n\n"


def page(title: str, about: str, *pieces: str) -> str:
    """A whole page; pieces are paragraphs, sections, lists, tables."""
    return f"{_HEAD}# {title}\n\n" + "\n\n".join([paragraph(about), *pieces]) + "\n"


def section(heading: str, about: str = "", level: int = 2) -> str:
    """A heading, and a sentence below it."""
    head = f"{'#' * level} {heading}"
    return f"{head}\n\n{paragraph(about)}" if about else head


def paragraph(text: str, width: int = _WIDTH) -> str:
    """In lines that fit."""
    return fill(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)


def indented(text: str) -> str:
    """A paragraph that belongs to the entry of a list above it."""
    return indent(paragraph(text, _WIDTH - 2), "  ")


def item(text: str) -> str:
    """An entry of a list."""
    return f"- {indented(text).lstrip()}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells hold a few words each."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def code(text: str) -> str:
    """As it is typed."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")
