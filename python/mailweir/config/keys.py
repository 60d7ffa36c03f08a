"""Every key of the configuration by its path, with what the model says of it. Pure.

Called by the manual page of the file and the page of all keys, and by `schema` and `sample`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mailweir.config.kinds import bare
from mailweir.config.model import Config
from mailweir.config.values import allowed
from mailweir.config.written import inline, value


@dataclass(frozen=True, slots=True)
class Key:
    """`path` has a `*` where a name or a number stands, as in `pools.*.balance`."""

    path: str
    values: str
    """What it may be, in words."""
    default: str
    """As a sentence."""
    what: str
    """What it does, and the reason of its default."""


@dataclass(frozen=True, slots=True)
class KeyGroup:
    """Keys that stand together, as those of `pools.*.queue`: those of the file have no `name`."""

    name: str
    about: str
    keys: tuple[Key, ...]


def parts() -> list[KeyGroup]:
    """In the order of the model; a part's own keys come before the parts in it."""
    return [*_groups("", "Of the process as a whole.", Config)]


def _groups(path: str, about: str, part: type[BaseModel]) -> Iterator[KeyGroup]:
    before = f"{path}." if path else ""
    own = [
        _key(f"{before}{name}", field)
        for name, field in part.model_fields.items()
        if part_behind(field) is None
    ]
    yield KeyGroup(path, about, tuple(own))
    for name, field in part.model_fields.items():
        if inner := part_behind(field):
            many = ".*" if get_origin(bare(field.annotation)) in (dict, list) else ""
            yield from _groups(f"{before}{name}{many}", _about(field, inner), inner)


def _about(field: FieldInfo, inner: type[BaseModel]) -> str:
    about = field.description or (inner.__doc__ or "").splitlines()[0]
    return f"{about} {_default(field)}" if may_be_absent(field) else about


def part_behind(field: FieldInfo) -> type[BaseModel] | None:
    """What a key has keys of its own by: itself, or each of its names or entries."""
    kind = bare(field.annotation)
    if get_origin(kind) in (dict, list):
        kind = bare(get_args(kind)[-1])
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def may_be_absent(field: FieldInfo) -> bool:
    """Whether a part is there only where the file has it, as `sticky`."""
    return not field.is_required() and field.get_default() is None


def _key(path: str, field: FieldInfo) -> Key:
    return Key(path, allowed(field), _default(field), field.description or "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "Has to be there."
    default = value(field.get_default(), field)
    return "Not there by default." if default is None else f"Default: `{inline(default)}`."
