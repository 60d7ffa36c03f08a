"""The complete commented configuration, from the model itself. Called by `config sample`. Pure.

Prose is `# like this`, a key that has its default `#like: this`: without the `#` it is
the same configuration.
"""

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mailweir.config.ha import Ha
from mailweir.config.keys import may_be_absent, part_behind
from mailweir.config.kinds import bare
from mailweir.config.listener import Listener
from mailweir.config.model import Config
from mailweir.config.pool import Pool, Server
from mailweir.config.written import inline, value

_WIDTH = 92
_HEAD = """\
# mailweir's configuration: every key there is. What stands behind a # is the default; take
# the # away to change it. Times are 500ms, 30s, 5m, 4h or 1d. `mailweir check -c FILE` says
# what is wrong with a file, `mailweir reload` takes a changed one. What stands behind ## is an
# example of a part that isn't there by default.
"""
# What the keys that have no default are to begin with, and what names are examples.
_LISTENER: Mapping[str, object] = {"bind": ["0.0.0.0:25", "[::]:25"], "pool": "inbound"}
_SERVERS: Mapping[str, str] = {"mx1": "10.0.2.11:25", "mx2": "10.0.2.12:25"}
# What a pair has to say; of its other keys the example has the defaults.
_PAIR: Mapping[str, object] = {
    "nodes": {
        "lb1": {"links": {"lan": "192.0.2.1:5405", "cross": "198.51.100.1:5405"}, "priority": 100},
        "lb2": {"links": {"lan": "192.0.2.2:5405", "cross": "198.51.100.2:5405"}, "priority": 100},
    },
    "virtual": [{"address": "192.0.2.10/24", "dev": "eth0"}],
    "source": [{"address": "10.0.2.253/24", "dev": "eth1"}],
    "keys": {"1": "/etc/mailweir/ha.key"},
    "gateway": ["192.0.2.254"],
    "witness": {"address": "203.0.113.9:5405"},
}


def sample() -> str:
    """The file's text."""
    lines = [_HEAD]
    for key, field in Config.model_fields.items():
        if key == "listeners":
            lines += [
                "",
                *_prose(field, ""),
                "listeners:",
                "  mx:",
                *_keys(Listener, _LISTENER, 4),
            ]
        elif key == "pools":
            lines += ["", *_prose(field, ""), "pools:", "  inbound:", *_keys(Pool, {}, 4)]
        elif key == "ha":
            lines += ["", *_prose(field, ""), "#ha: none", "##ha:", *_example(Ha, _PAIR, 2)]
        else:
            lines += ["", *_key(key, field, _default(field), "#", "")]
    return "\n".join(lines) + "\n"


def _keys(model: type[BaseModel], given: Mapping[str, object], indent: int) -> Iterator[str]:
    """The keys of a part: those that are given as they are, the others as comments."""
    margin = " " * indent
    for key, field in model.model_fields.items():
        if key == "servers":
            yield from _prose(field, margin)
            yield f"{margin}servers:"
            for name, address in _SERVERS.items():
                yield f"{margin}  {name}:"
                yield from _keys(Server, {"address": address}, indent + 4)
        elif key in given:
            yield from _prose(field, margin)
            yield f"{margin}{key}: {inline(given[key])}"
        else:
            yield from _key(key, field, _default(field), f"{margin}#", "")


def _example(model: type[BaseModel], given: Mapping[str, Any], indent: int) -> Iterator[str]:
    """The keys of a part that isn't there by default, with what is given or their defaults."""
    margin = f"##{' ' * indent}"
    for key, field in model.model_fields.items():
        yield from _prose(field, margin)
        inner = part_behind(field)
        found = given[key] if key in given else value(_default(field), field)
        if inner is None:
            yield f"{margin}{key}: {inline(found)}"
        elif isinstance(found, dict) and get_origin(bare(field.annotation)) is None:
            yield f"{margin}{key}:"
            yield from _example(inner, found, indent + 2)
        else:
            for name, of_part in inner.model_fields.items():
                yield from _wrapped(f"`{name}`: {of_part.description}", f"{margin}# ")
            yield from _many(key, found, margin)


def _many(key: str, found: object, margin: str) -> Iterator[str]:
    """A key with parts under names, one a line, or without names."""
    if isinstance(found, dict):
        yield f"{margin}{key}:"
        yield from (f"{margin}  {name}: {inline(one)}" for name, one in found.items())
    else:
        yield f"{margin}{key}: {inline(found)}"


def _key(key: str, field: FieldInfo, default: object, mark: str, inner: str) -> Iterator[str]:
    """A key that has a default, with its reason; `inner` is how deep it stands behind the mark."""
    prose = f"{mark}{inner}# " if inner else f"{mark} "
    described = field.description or ""
    if isinstance(default, BaseModel):
        described = described or (type(default).__doc__ or "").splitlines()[0]
        yield from _wrapped(described, prose)
        yield f"{mark}{inner}{key}:"
        for name, of_part in type(default).model_fields.items():
            part = getattr(default, name)
            yield from _key(name, of_part, part, mark, f"{inner}  ")
        return
    written = value(default, field)
    if written is None:
        yield from _wrapped(f"`{key}`: {described} Not there by default.", prose)
        return
    yield from _wrapped(described, prose)
    if may_be_absent(field):
        yield from _keys_in_prose(key, field, prose)
    yield f"{mark}{inner}{key}: {inline(written)}"


def _keys_in_prose(key: str, field: FieldInfo, before: str) -> Iterator[str]:
    """The keys of a part that isn't there by default: they can't stand there with their values."""
    inner = part_behind(field)
    for name, of_part in inner.model_fields.items() if inner else ():
        default = inline(value(_default(of_part), of_part))
        yield from _wrapped(f"`{key}: {{{name}: {default}}}`: {of_part.description}", before)


def _default(field: FieldInfo) -> object:
    return field.get_default(call_default_factory=True)


def _prose(field: FieldInfo, margin: str) -> Iterator[str]:
    yield from _wrapped(field.description or "", f"{margin}# ")


def _wrapped(text: str, before: str) -> Iterator[str]:
    return iter(wrap(text, _WIDTH, initial_indent=before, subsequent_indent=before))
