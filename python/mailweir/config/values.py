"""What may stand behind a key, in words: `a time from 1s to 1h`. Pure. Called by `keys`."""

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Le, MaxLen
from pydantic import AfterValidator
from pydantic.fields import FieldInfo

from mailweir.config.kinds import NONE, Between, InWords, bare
from mailweir.config.units import format_duration

# Booleans as YAML writes them.
_PLAIN = {bool: "`true` or `false`", int: "a number", str: "text"}


def allowed(field: FieldInfo) -> str:
    """All that a key may be, with its range."""
    kind, marks = _apart(field.annotation, field.metadata)
    extra = field.json_schema_extra
    none = extra.get(NONE) if isinstance(extra, dict) else None
    words = [*_choices(kind)]
    if none and words:
        return _one_of([str(none), *words])
    return f"`{none}` or {_of(kind, marks)}" if none else _of(kind, marks)


def _of(kind: Any, beside: Iterable[Any] = ()) -> str:
    kind, marks = _apart(kind, beside)
    text = ""
    for mark in marks:
        if isinstance(mark, InWords):
            text = mark.text
        elif isinstance(mark, AfterValidator) and isinstance(mark.func, Between):
            text += f" from {format_duration(mark.func.low)} to {format_duration(mark.func.high)}"
    return text or _by_type(kind, marks)


def _by_type(kind: Any, marks: list[Any]) -> str:
    arguments = get_args(kind)
    most = next((mark.max_length for mark in marks if isinstance(mark, MaxLen)), None)
    if get_origin(kind) is list:
        entries = "a list" if most is None else f"a list of {most} entries at most"
        return f"{entries}; each entry is {_of(arguments[0])}"
    if get_origin(kind) is dict:
        pairs = "a mapping" if most is None else f"a mapping of {most} keys at most"
        return f"{pairs}; each key is {_of(arguments[0])}, each value {_of(arguments[1])}"
    if words := [*_choices(kind)]:
        return _one_of(words)
    length = "" if most is None else f" of {most} characters at most"
    return f"{_PLAIN[kind]}{_range(marks)}{length}"


def _apart(kind: Any, beside: Iterable[Any]) -> tuple[Any, list[Any]]:
    """A type, and all that stands beside it: the innermost first, as it is checked."""
    found = list(beside)
    while bare(kind) is not kind:
        if get_origin(kind) is Annotated:
            found = [*get_args(kind)[1:], *found]
        kind = bare(kind)
    return kind, [mark for one in found for mark in _marks(one)]


def _marks(beside: Any) -> list[Any]:
    return beside.metadata if isinstance(beside, FieldInfo) else [beside]


def _range(marks: list[Any]) -> str:
    low = next((mark.ge for mark in marks if isinstance(mark, Ge)), None)
    high = next((mark.le for mark in marks if isinstance(mark, Le)), None)
    return "" if low is None else f" from {low} to {high}"


def _choices(kind: Any) -> Iterator[str]:
    """The words of a closed list."""
    if get_origin(kind) is Literal:
        yield from map(str, get_args(kind))
    elif isinstance(kind, type) and issubclass(kind, Enum):
        yield from (str(word.value) for word in kind)


def _one_of(words: list[str]) -> str:
    *others, last = (f"`{word}`" for word in words)
    return f"{', '.join(others)} or {last}" if others else last
