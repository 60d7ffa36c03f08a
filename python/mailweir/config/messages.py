"""pydantic's errors in an operator's words. Called by `load`. Pure."""

import re
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from mailweir.config.finding import did_you_mean
from mailweir.config.kinds import NONE, bare

# Types whose values come from the file as another type than the key wants.
_WANTED = {
    "dict_type": "must be a mapping (`name: value` lines)",
    "model_type": "must be a mapping (`key: value` lines)",
    "model_attributes_type": "must be a mapping (`key: value` lines)",
    "list_type": 'must be a list, as in ["one", "another"]',
    "int_type": "must be a whole number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
}
_BOUNDS = {
    "greater_than_equal": "must be at least {ge}, not {given}",
    "less_than_equal": "must be at most {le}, not {given}",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must not be empty",
    "too_long": "must have at most {max_length} entries",
}
_LONGEST_SHOWN = 60


def is_about_key(detail: ErrorDetails) -> bool:
    """Whether an error is placed at the key rather than at its value."""
    return detail["type"] in ("extra_forbidden", "missing") or detail["loc"][-1:] == ("[key]",)


def explain(detail: ErrorDetails, model: type[BaseModel]) -> str:
    """One sentence for one of pydantic's errors about `model`."""
    kind, given = detail["type"], detail["input"]
    context = detail.get("ctx", {})
    if kind == "missing":
        return "is missing; it has no default"
    if kind == "extra_forbidden":
        key = str(detail["loc"][-1])
        return f"unknown key{did_you_mean(key, _keys_at(model, detail['loc'][:-1]))}"
    if given is None:
        return "has no value"
    if kind == "value_error":
        return str(context["error"])
    if kind == "enum":
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        word = str(given)
        return f"must be one of {', '.join(known)}; not {_shown(given)}{did_you_mean(word, known)}"
    if kind == "literal_error":
        return f"must be {context['expected']}, not {_shown(given)}"
    if kind in _WANTED:
        return f"{_WANTED[kind]}{_or_none(model, detail['loc'])}, not {_shown(given)}"
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(**context, given=_shown(given))
    return detail["msg"]


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "...'"


def _or_none(model: type[BaseModel], path: Sequence[str | int]) -> str:
    """The word that the key at `path` takes as well, where there is one."""
    *above, key = path
    part = _part_at(model, above)
    field = part.model_fields.get(str(key)) if part else None
    extra = field.json_schema_extra if field else None
    return f", or `{extra[NONE]}`" if isinstance(extra, dict) and NONE in extra else ""


def _keys_at(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys that the part of the model at `path` knows."""
    part = _part_at(model, path)
    return list(part.model_fields) if part else []


def _part_at(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel] | None:
    """None where there is something else."""
    current: Any = model
    for step in path:
        if isinstance(current, type) and issubclass(current, BaseModel):
            current = bare(current.model_fields[str(step)].annotation)
        else:
            # A mapping of names: the values' type is the last argument.
            current = bare(get_args(current)[-1])
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None
