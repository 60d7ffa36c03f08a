"""No change is silent: of every field of the specification, and of every key of the configuration,
there is a part of the sentence, or a reload is refused for it.
"""

import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any

import pytest
import yaml
from msgspec import Struct
from msgspec.structs import replace
from pydantic import BaseModel

from mailweir.config.kinds import Part
from mailweir.config.model import Config
from mailweir.reload import restart_needed
from mailweir.spec import DesiredQueue, DesiredServer, DesiredState, DesiredSticky
from mailweir.state import diff
from mailweir.state.desired import fold
from unit.fakes import NOTHING_SAID, ROOM, loaded

Place = tuple[str, ...]


def some(kind: Any) -> Any:
    """A value of a type in which nothing is empty."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        hints = typing.get_type_hints(kind).items()
        return kind(**{name: some(hint) for name, hint in hints})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind))
    if typing.get_origin(kind) is UnionType:
        return some(typing.get_args(kind)[0])
    if typing.get_origin(kind) is tuple:
        return tuple(some(part) for part in typing.get_args(kind) if part is not Ellipsis)
    return {str: "x", bool: False, int: 1, float: 1.0}[kind]


def others(value: Any, kind: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    """Values that differ from `value` in one field each, by the place of that."""
    if typing.get_origin(kind) is UnionType:
        assert typing.get_args(kind)[1:] == (NoneType,), kind
        yield (*place, "none"), None
        yield from others(value, typing.get_args(kind)[0], place)
    elif isinstance(value, Struct):
        for name, hint in typing.get_type_hints(kind).items():
            for where, other in others(getattr(value, name), hint, (*place, name)):
                yield where, replace(value, **{name: other})
    elif isinstance(value, Enum):
        yield place, list(type(value))[-1]
    elif isinstance(value, tuple):
        for where, other in others(value[0], typing.get_args(kind)[0], place):
            yield where, (other, *value[1:])
    else:
        # A second becomes a minute: rates are by those.
        yield place, not value if isinstance(value, bool) else value * 60


def silent() -> list[str]:
    """Fields that can change without a part that says from what to what, either way."""
    state = some(DesiredState)
    found = []
    for place, other in others(state, DesiredState, ()):
        for old, new in ((state, other), (other, state)):
            parts = diff.changes(old, new)
            if not parts or any(_says_nothing(part) for part in parts):
                found.append(".".join(place))
    return found


def _says_nothing(part: str) -> bool:
    was, arrow, now = part.partition(" -> ")
    return bool(arrow) and was.endswith(f" {now}")


def test_every_field_of_the_specification_is_told() -> None:
    places = {".".join(place) for place, _ in others(some(DesiredState), DesiredState, ())}
    assert {"room.spare", "kernel.counted", "listeners.per_source.rate.burst"} <= places
    assert {"listeners.max_age.none", "pools.queue.none", "pools.servers.backup"} <= places
    assert silent() == []


def test_a_field_that_is_forgotten_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(diff._SAYS[DesiredServer], "max_sessions", lambda *_: [])
        where = "pools.servers.max_sessions"
        assert set(silent()) == {where, f"{where}.none"}
    with monkeypatch.context() as patch:
        # A value of several fields, of which one isn't written.
        written = {**diff._WRITTEN, DesiredQueue: attrgetter("length")}
        patch.setattr(diff, "_WRITTEN", written)
        assert set(silent()) == {"pools.queue.wait"}
    with monkeypatch.context() as patch:
        limits: dict[type[Struct], tuple[str, ...]] = {**diff._LIMITS, DesiredSticky: ()}
        patch.setattr(diff, "_LIMITS", limits)
        assert set(silent()) == {"pools.sticky.none"}


# A configuration in which each key has an effect.
_WHOLE = """\
listeners:
  mx:
    bind: ["192.0.2.1:25"]
    pool: farm
    allow: [10.0.0.0/8]
    limits: {per_source: {sessions: 5, rate: 100/min}}
pools:
  farm: {servers: {a: {address: 10.0.0.1:25}, b: {address: 10.0.0.2:25}}, sticky: {}, queue: {}}
  park: {servers: {c: {address: 10.0.0.3:25}}}
"""
# Another value of each key.
_OTHERS: dict[str, object] = {
    "workers": 3,
    "max_sessions": ROOM.sessions,
    "forwarding": "relay",
    "source_ports": "20000-20010",
    "max_flows": 9,
    "admin.socket": "/run/other.sock",
    "admin.operators": ["root"],
    "admin.readers": ["root"],
    "admin.http": "off",
    "admin.hosts": ["lb.example"],
    "log.sessions": "syslog",
    "log.format": "logfmt",
    "state_dir": "/var/lib/other",
    "drain.deadline": "1h",
    "drain.quiet": "9s",
    "drain.spread": "5s",
    "listeners.bind": ["192.0.2.2:25"],
    "listeners.pool": "park",
    "listeners.protocol": "tcp",
    "listeners.allow": ["10.0.0.0/9"],
    "listeners.deny": ["10.0.0.0/9"],
    "listeners.others": "admit",
    "listeners.deny_code": 421,
    "listeners.refuse": "drop",
    "listeners.timeouts.connect": "2s",
    "listeners.timeouts.greeting": "14s",
    "listeners.timeouts.accept_total": "44s",
    "listeners.timeouts.idle_client": "331s",
    "listeners.timeouts.idle_server": "661s",
    "listeners.timeouts.half_closed": "61s",
    "listeners.limits.sessions": 7,
    "listeners.limits.per_source.sessions": 6,
    "listeners.limits.per_source.rate": "5/s",
    "listeners.limits.per_source.burst": 7,
    "listeners.limits.per_source.prefix4": 24,
    "listeners.limits.per_source.prefix6": 48,
    "listeners.limits.per_source.exempt": ["10.0.0.1"],
    "listeners.limits.dry_run": True,
    "listeners.max_age": "2h",
    "listeners.forwarding": "relay",
    "pools.balance": "round_robin",
    "pools.hash_key.prefix4": 24,
    "pools.hash_key.prefix6": 48,
    "pools.hash_key.seed": "x",
    "pools.sticky.prefix4": 32,
    "pools.sticky.prefix6": 48,
    "pools.sticky.ttl": "1h",
    "pools.slow_start": "5s",
    "pools.panic": "7%",
    "pools.on_down": "end",
    "pools.outlier.consecutive": 3,
    "pools.outlier.max_ejected": "30%",
    "pools.outlier.base": "1m",
    "pools.queue.length": 5,
    "pools.queue.wait": "9s",
    "pools.overflow": ["park"],
    "pools.servers.address": "10.0.0.9:25",
    "pools.servers.weight": 50,
    "pools.servers.max_sessions": 9,
    "pools.servers.proxy": "v2",
    "pools.servers.source": ["10.0.0.254"],
    "pools.servers.backup": True,
    "pools.check.kind": "tcp",
    "pools.check.helo": "lb.example",
    "pools.check.source": "10.0.0.254",
    "pools.check.every": "9s",
    "pools.check.fast": "1s",
    "pools.check.rise": 1,
    "pools.check.fall": 1,
    "pools.check.timeout": "9s",
    "pools.check.initial": "up",
    "pools.check.requires": ["SIZE"],
    "pools.check.verify": "none",
    "pools.check.name": "mx.example",
    "pools.check.ca": "/etc/ca.pem",
    "pools.check.days": 7,
    "pools.check.user": "check",
    "pools.check.password_file": "/etc/password",
    "pools.check.mail_from": "check@client.example",
    "pools.check.rcpt_to": "check@mx.example",
    "pools.check.arrives.maildir": "/var/mail/check",
    "pools.check.arrives.smtp": "127.0.0.1:2526",
    "pools.check.arrives.lmtp": "127.0.0.1:2524",
    "pools.check.port": 8080,
    "pools.check.proxy": "v1",
    "pools.check.path": "/health",
    "pools.check.status": [204],
    "pools.check.match": "fine",
    "pools.check.header": {"Host": "mx.example"},
    "pools.check.client_certificate": "/etc/client.pem",
    "pools.more_checks.decides": "alarm",
    "ha": {"mode": "external"},
}
# What keys of a check go with, before and after they have another value.
_LOGIN = {"kind": "auth", "user": "u", "password_file": "/etc/p"}
_WITH: Mapping[str, Mapping[str, object]] = {
    **{key: {"kind": "starttls"} for key in ("verify", "name", "ca", "days")},
    **{key: _LOGIN for key in ("user", "password_file")},
    "mail_from": {"kind": "rcpt", "rcpt_to": "a@mx.example"},
    "rcpt_to": {"kind": "rcpt", "rcpt_to": "a@mx.example"},
    "arrives": {"kind": "message", "rcpt_to": "a@mx.example"},
    **{key: {"kind": "http"} for key in ("path", "status", "match", "header")},
    "client_certificate": {"kind": "https"},
}
# Of keys of which one has to be there.
_BEFORE = {"maildir": "/var/mail/other", "smtp": "127.0.0.1:2527", "lmtp": "127.0.0.1:2527"}
# A further check has the keys of the pool's own.
_OTHERS |= {
    f"pools.more_checks.{key.removeprefix('pools.check.')}": value
    for key, value in _OTHERS.items()
    if key.startswith("pools.check.")
} | {"pools.more_checks.initial": "down"}
# Keys that are no setting: they have one value alone, or only tell what may be written elsewhere.
_NO_EFFECT = {"include", "listeners.timeouts.i_accept_duplicates", "pools.sticky.by"}
_MEMBERS = {"listeners": "mx", "pools": "farm", "servers": "a", "more_checks": "further"}


def keys(model: type[BaseModel], place: str = "") -> Iterator[str]:
    """All keys of the configuration; `ha`, which the pair's process takes, is one."""
    for name, field in model.model_fields.items():
        part = None if name == "ha" else _part(field.annotation)
        yield from keys(part, f"{place}{name}.") if part else [f"{place}{name}"]


def _part(annotation: Any) -> type[BaseModel] | None:
    """What the values of a key are made of, where they have keys."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        # Files of prefixes are read to one, which is no part of the file.
        return annotation if issubclass(annotation, Part) else None
    parts = map(_part, typing.get_args(annotation))
    return next((part for part in parts if part), None)


def changed(key: str, value: object) -> tuple[str, str]:
    """That configuration with what a key goes with, and the same with another value of the key."""
    tree = yaml.safe_load(_WHOLE)
    *steps, last = key.split(".")
    inner = tree
    for step in steps:
        inner = inner.setdefault(step, {})
        if step in _MEMBERS:
            inner = inner.setdefault(_MEMBERS[step], {})
        if step == "more_checks":
            inner["kind"] = "ehlo"
        if step in ("check", "more_checks"):
            inner |= _WITH.get(key.split(".")[2], {})
    if last in _BEFORE:
        inner[last] = _BEFORE[last]
    before = yaml.safe_dump(tree)
    inner[last] = value
    return before, yaml.safe_dump(tree)


def test_every_key_has_another_value_here() -> None:
    """A new one is added to these, or to those without an effect."""
    assert set(keys(Config)) == set(_OTHERS) | _NO_EFFECT


@pytest.mark.parametrize("key", _OTHERS)
def test_every_key_of_the_configuration_is_told(key: str) -> None:
    old, new = map(loaded, changed(key, _OTHERS[key]))
    was, now = (fold(one.config, {}, NOTHING_SAID, hostname="h", room=ROOM) for one in (old, new))
    told = diff.changes(was, now, diff.settings(old.config, new.config))
    refused = restart_needed(old, new, kernel_path=False)
    assert told or refused
    assert not any(map(_says_nothing, told))
