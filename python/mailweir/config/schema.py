"""The JSON Schema of the configuration, for editors. Called by `config schema`. Pure."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from mailweir.config.ha import TIMERS
from mailweir.config.keys import part_behind
from mailweir.config.kinds import NONE
from mailweir.config.model import Config
from mailweir.config.written import value

_ADDRESS = {"type": "string", "description": "The short form: its address alone."}


class _Generator(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        """Defaults are put in afterwards, as a file writes them."""
        return None


def schema() -> dict[str, Any]:
    """Draft 2020-12."""
    found = Config.model_json_schema(schema_generator=_Generator)
    parts = found["$defs"]
    for kind in _parts(Config):
        part = found if kind is Config else parts[kind.__name__]
        _with_defaults(kind, part["properties"])
    parts["Server"] = {"anyOf": [_ADDRESS, parts["Server"]]}
    parts["Timers"] = {"anyOf": [{"enum": [*TIMERS]}, parts["Timers"]]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **found,
        "title": "mailweir's configuration",
    }


def _parts(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """`kind` and what stands behind its keys. A part that is there twice is the same."""
    yield kind
    for field in kind.model_fields.values():
        inner = part_behind(field)
        if inner is not None:
            yield from _parts(inner)


def _with_defaults(kind: type[BaseModel], properties: dict[str, Any]) -> None:
    for key, field in kind.model_fields.items():
        word = properties[key].pop(NONE, None)
        choices = properties[key].get("anyOf", [])
        if word and {"type": "null"} in choices:
            choices[choices.index({"type": "null"})] = {"const": word}
        properties[key].pop("default", None)
        default = None if field.is_required() else value(field.get_default(), field)
        if default is not None:
            properties[key]["default"] = default
