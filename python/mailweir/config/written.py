"""Parts of a configuration as a file writes them: the way back from the model. Pure.

Called by `whole`, `ha`, `sample`, `schema` and `keys`.
"""

import json
from enum import Enum

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


def value(given: object, field: FieldInfo) -> object:
    """What stands behind a key; None where the key has to be absent."""
    if given is None:
        extra = field.json_schema_extra
        return extra.get(NONE) if isinstance(extra, dict) else None
    return _written(given)


def inline(given: object) -> str:
    """What `value` returned, on one line of YAML."""
    if isinstance(given, str) and (given[:1].isalnum() or given[:1] == "/") and ": " not in given:
        return given
    return json.dumps(given)


def _written(given: object) -> object:
    if isinstance(given, BaseModel):
        return plain(given)
    if isinstance(given, dict):
        return {str(key): _written(item) for key, item in given.items()}
    if isinstance(given, list):
        return [_written(item) for item in given]
    if isinstance(given, Enum):
        return given.value
    if isinstance(given, Prefixes):
        return [str(entry) for entry in given.entries]
    if isinstance(given, bool | int):
        return given
    if isinstance(given, Share):
        return str(given)
    if isinstance(given, float):
        # Every other number with a fraction is a time.
        return format_duration(given)
    if isinstance(given, range):
        return f"{given[0]}-{given[-1]}"
    return str(given)
