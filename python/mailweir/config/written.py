"""Parts of a configuration as a file writes them: the way back from the model. Pure.

Called by `whole`, `agreed`, `sample`, `schema` and `keys`.
"""

import json
from collections.abc import Callable, Iterator
from enum import Enum
from functools import cache
from itertools import chain

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mailweir.config.kinds import NONE
from mailweir.config.prefixes import Prefixes
from mailweir.config.units import Share, format_duration


def plain(part: BaseModel) -> dict[str, object]:
    """Every key with its value, those with their defaults too; `load` reads it back.

    A key whose default can't be written, since it is that the key isn't there, isn't there.
    """
    fields = type(part).model_fields
    values = {key: value(getattr(part, key), field) for key, field in fields.items()}
    return {key: found for key, found in values.items() if found is not None}


def given(part: BaseModel) -> dict[str, object]:
    """The keys whose values aren't their defaults, however deep they are."""
    found: dict[str, object] = {}
    for key, field in type(part).model_fields.items():
        there = getattr(part, key)
        if not field.is_required() and _is_written_alike(there, _default(type(part), key)):
            continue
        found[key] = value(there, field) if there is None else _as(there, given)
    return found


def names(there: object, depth: int) -> Iterator[str]:
    """Of the keys that a part has or could have, as `pools.farm.balance`, `depth` words at most."""
    members: dict[str, object] = {}
    if isinstance(there, BaseModel):
        members = {key: getattr(there, key) for key in type(there).model_fields}
    elif isinstance(there, dict):
        members = {str(key): one for key, one in there.items()}
    for key, one in members.items():
        deeper = names(one, depth - 1) if depth > 1 else iter(())
        if first := next(deeper, None):
            yield from (f"{key}.{name}" for name in chain((first,), deeper))
        else:
            yield key


def value(there: object, field: FieldInfo) -> object:
    """What stands behind a key; None where the key has to be absent."""
    if there is None:
        extra = field.json_schema_extra
        return extra.get(NONE) if isinstance(extra, dict) else None
    return _as(there, plain)


def inline(there: object) -> str:
    """What `value` returned, on one line of YAML."""
    if isinstance(there, str) and (there[:1].isalnum() or there[:1] == "/") and ": " not in there:
        return there
    return json.dumps(there)


@cache
def _default(part: type[BaseModel], key: str) -> object:
    """What nobody changes: parts are frozen."""
    return part.model_fields[key].get_default(call_default_factory=True)


def _is_written_alike(one: object, other: object) -> bool:
    if one is other:
        return True
    if one is None or other is None:
        return False
    # Most are the same, for which nothing has to be written.
    return one == other or _as(one, given) == _as(other, given)


def _as(there: object, tree: Callable[[BaseModel], dict[str, object]]) -> object:
    """A value as it is written; what has keys of its own by `tree`."""
    if isinstance(there, BaseModel):
        return tree(there)
    if isinstance(there, dict):
        return {str(key): _as(item, tree) for key, item in there.items()}
    if isinstance(there, list):
        return [_as(item, tree) for item in there]
    return _scalar(there)


def _scalar(there: object) -> object:
    if isinstance(there, Enum):
        return there.value
    if isinstance(there, Prefixes):
        return [str(entry) for entry in there.entries]
    if isinstance(there, bool | int):
        return there
    if isinstance(there, Share):
        return str(there)
    if isinstance(there, float):
        # Every other number with a fraction is a time.
        return format_duration(there)
    if isinstance(there, range):
        return f"{there[0]}-{there[-1]}"
    return str(there)
