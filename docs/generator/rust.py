"""What the data plane's sources say of their closed lists, and of the session log's fields.

The comments beside them are the text: a word that is added says there what it means. Raises
ValueError for a word that has none.
"""

import re
from collections.abc import Iterator
from pathlib import Path

_CORE = Path(__file__).parents[2] / "rust/core/src"
_COMMENT = re.compile(r" +//[/!]? ?(.*)")
_LABEL = re.compile(r'Self::(\w+) => "(\w+)"')
_VARIANT = re.compile(r"    (\w+)[,(]")
# `self.text("listener", ...)`, or `self.tried(...)`, whose field is called as the method.
_FIELD = re.compile(r'        self\.(\w+)\((?:"(\w+)")?')
# How a value looks in JSON, by the method that writes it; of the others it is a list.
_LOOKS = {
    "own": "Text",
    "text": "Text",
    "millis": "A number",
    "number": "A number",
    "truth": "True or false",
}


def words(file: str, enum: str) -> dict[str, str]:
    """The words of a closed list as metrics and logs write them, with what each means."""
    text = (_CORE / file).read_text()
    labels = dict(_LABEL.findall(text.partition(f"impl {enum} {{")[2]))
    _, _, body = text.partition(f"pub enum {enum} {{\n")
    return {
        labels.get(variant[1], _snake_case(variant[1])): meaning
        for variant, meaning in _commented(file, body.partition("\n}")[0], _VARIANT)
    }


def log_fields() -> dict[str, tuple[str, str]]:
    """The fields of a line of the session log, in their order: how a value looks in JSON, and what
    it means.
    """
    file = "record/format.rs"
    body, _, _ = (_CORE / file).read_text().partition("    fn key(&mut self")
    _, _, body = body.partition("impl LogLine<'_> {\n")
    return {
        field[2] or field[1]: (_LOOKS.get(field[1], "A list of texts"), meaning)
        for field, meaning in _commented(file, body, _FIELD)
    }


def _commented(
    file: str, text: str, pattern: re.Pattern[str]
) -> Iterator[tuple[re.Match[str], str]]:
    """The lines that have the pattern, each with the comment above it."""
    comment: list[str] = []
    for line in text.splitlines():
        if beside := _COMMENT.match(line):
            comment.append(beside[1])
            continue
        if found := pattern.match(line):
            if not comment:
                raise ValueError(
                    f"{file}: `{line.strip()}` needs a comment that says what it means"
                )
            yield found, " ".join(comment)
        comment = []


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
