"""Plain text as a manual page: the macros of groff_man(7). Called by `manual`. Pure.

In prose, what stands between backticks is set in bold, as it is to be typed.
"""

import re
from textwrap import dedent

# What troff would set as another character than the one that is to be typed.
_TYPED = str.maketrans(
    {
        "\\": r"\(rs",
        "-": r"\-",
        "'": r"\(aq",
        '"': r"\(dq",
        "`": r"\(ga",
        "^": r"\(ha",
        "~": r"\(ti",
    }
)
_READ = str.maketrans({"\\": r"\(rs", '"': r"\(dq", "^": r"\(ha", "~": r"\(ti"})
# Between letters it is a hyphen, where a line may end; elsewhere it begins an option.
_MINUS = re.compile(r"(?<![A-Za-z0-9])-")


def title(name: str, section: int, version: str, manual: str) -> str:
    """What a page begins with. No date: the same sources make the same page."""
    head = f'.TH "{_typed(name.upper())}" "{section}" "" "{_typed(version)}" "{manual}"'
    # To the left only: there are too many long words to fill lines evenly.
    return f"{head}\n.ad l\n"


def section(heading: str) -> str:
    """`heading` is in capitals, as in other pages."""
    return f'.SH "{heading}"\n'


def subsection(heading: str) -> str:
    """Below a section."""
    return f'.SS "{prose(heading)}"\n'


def paragraph(text: str) -> str:
    """Prose, or lines that stay as they are where it begins with click's mark for that."""
    if text.startswith("\b\n"):
        return example(text.removeprefix("\b\n"))
    return f".PP\n{_line(text)}"


def example(text: str) -> str:
    """Lines as they are typed."""
    lines = "".join(f"{_guarded(_typed(line))}\n" for line in dedent(text).splitlines())
    return f".PP\n.RS 4\n.EX\n{lines}.EE\n.RE\n"


def item(tag: str, text: str) -> str:
    """A word, and behind it what is said of it."""
    return f".TP\n{_line(tag)}{_line(text)}"


def prose(text: str) -> str:
    """In one line."""
    pieces = " ".join(text.split()).split("`")
    return "".join(
        rf"\fB{_unbroken(piece)}\fP" if number % 2 else _MINUS.sub(r"\\-", piece.translate(_READ))
        for number, piece in enumerate(pieces)
    )


def _line(text: str) -> str:
    return f"{_guarded(prose(text))}\n"


def _unbroken(text: str) -> str:
    return " ".join(rf"\%{_typed(word)}" for word in text.split(" "))


def _guarded(line: str) -> str:
    """A line that begins with one of these would be a request to troff."""
    return rf"\&{line}" if line.startswith((".", "'")) else line


def _typed(text: str) -> str:
    return text.translate(_TYPED)
