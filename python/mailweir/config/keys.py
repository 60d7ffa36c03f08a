"""Every key of the configuration by its path, with what the model says of it. Pure.

Called by the manual page of the file and by `schema` and `sample`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mailweir.config.kinds import NONE, bare
from mailweir.config.model import Config
from mailweir.config.written import inline, value


@dataclass(frozen=True, slots=True)
class Key:
    """`path` has a `*` where a name or a number stands, as in `pools.*.balance`."""

    path: str
    about: str


@dataclass(frozen=True, slots=True)
class KeyGroup:
    """Keys that stand together: those of the file itself have no `name`."""

    name: str
    about: str
    keys: tuple[Key, ...]


def parts() -> list[KeyGroup]:
    """In the order of the model; the file's own keys come first."""
    of_file, others = [], []
    for name, field in Config.model_fields.items():
        inner = part_behind(field)
        if inner is None:
            of_file.append(_key(name, field))
        else:
            about = field.description or (inner.__doc__ or "").splitlines()[0]
            keys = tuple(key for key in _keys(name, field) if key.path != name)
            others.append(KeyGroup(name, f"{about}{_unless_absent(field)}", keys))
    return [KeyGroup("", "Of the process as a whole.", tuple(of_file)), *others]


def _keys(path: str, field: FieldInfo) -> Iterator[Key]:
    inner = part_behind(field)
    if inner is None or has_words_of_its_own(field):
        yield _key(path, field)
    if inner is None:
        return
    if get_origin(bare(field.annotation)) in (dict, list):
        path += ".*"
    for name, of_part in inner.model_fields.items():
        yield from _keys(f"{path}.{name}", of_part)


def part_behind(field: FieldInfo) -> type[BaseModel] | None:
    """What a key has keys of its own by: itself, or each of its names or entries."""
    kind = bare(field.annotation)
    if get_origin(kind) in (dict, list):
        kind = bare(get_args(kind)[-1])
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def may_be_absent(field: FieldInfo) -> bool:
    """Whether a part is there only where the file has it, as `sticky`."""
    return not field.is_required() and field.get_default() is None


def has_words_of_its_own(field: FieldInfo) -> bool:
    """Whether a part is more than its keys: it may be left out, and its description says why."""
    return not field.is_required() and field.description is not None


def _key(path: str, field: FieldInfo) -> Key:
    sentences = (field.description or "", _choices(field), _default(field))
    return Key(path, " ".join(filter(None, sentences)))


def _choices(field: FieldInfo) -> str:
    """The words it may be, where they are few."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, Enum):
            words = [str(word.value) for word in kind]
            extra = field.json_schema_extra
            if isinstance(extra, dict) and NONE in extra:
                words.insert(0, str(extra[NONE]))
            return f"One of {', '.join(f'`{word}`' for word in words)}."
    return ""


def _unless_absent(field: FieldInfo) -> str:
    return f" {_default(field)}" if may_be_absent(field) else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "Has to be there."
    default = value(field.get_default(), field)
    return "Not there by default." if default is None else f"Default: `{inline(default)}`."
