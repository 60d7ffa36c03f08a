"""What changed between two desired states, as one sentence: the log line. Pure.

It goes over the fields of `spec` one by one: a new field is told by its name and values. At the end
there are tables of what is told in another way.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from types import NoneType
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import fields, replace

from mailweir.config.check_keys import FurtherCheck
from mailweir.config.kinds import Part
from mailweir.config.model import Config
from mailweir.config.pool import Outlier
from mailweir.config.units import format_duration, format_rate
from mailweir.config.words import Others
from mailweir.spec import (
    DesiredAccess,
    DesiredDrain,
    DesiredHashKey,
    DesiredKernel,
    DesiredListener,
    DesiredLog,
    DesiredPerSource,
    DesiredPool,
    DesiredQueue,
    DesiredRate,
    DesiredRoom,
    DesiredServer,
    DesiredState,
    DesiredSticky,
    ServerKey,
    ServerState,
)

# Prefixes that came or went; more are counted.
_SPELLED = 3
# A sentence with more parts than this helps nobody; the rest is counted.
MAX_PARTS = 12

_Named = TypeVar("_Named", DesiredListener, DesiredPool, DesiredServer)


def describe(old: DesiredState | None, new: DesiredState, settings: Iterable[str] = ()) -> str:
    """`pool farm: server c added (10.0.0.3:25, weight 100); ...`, or `nothing changed`.

    `settings` are parts of the sentence about what the data plane isn't told.
    """
    if old is None:
        return _inventory(new)
    parts = changes(old, new, settings)
    if not parts:
        return "nothing changed"
    hidden = len(parts) - MAX_PARTS
    if hidden > 0:
        parts[MAX_PARTS:] = [f"and {hidden} more"]
    return "; ".join(parts)


def changes(old: DesiredState, new: DesiredState, settings: Iterable[str] = ()) -> list[str]:
    """All parts of that sentence."""
    return [*_fields(old, new), *settings]


def settings(old: Config, new: Config) -> Iterator[str]:
    """What changed of what the data plane isn't told: who may ask, checks, panic, what comes of it
    that a server is down, ejections, the pair.
    """
    if old.ha != new.ha:
        yield "ha changed: mailweir ha has to be told (HUP)"
    for part in _keys(old.admin, new.admin, ("operators", "readers", "hosts")):
        yield f"admin: {part}"
    for name, pool in new.pools.items():
        if (before := old.pools.get(name)) is None or before == pool:
            continue
        for part in _keys(before, pool, ("panic", "on_down")):
            yield f"pool {name}: {part}"
        for part in _outlier(before.outlier, pool.outlier):
            yield f"pool {name}: outlier {part}"
        for part in _keys(before.check, pool.check, type(pool.check).model_fields):
            yield f"pool {name}: check {part}"
        for part in _further_checks(before.more_checks, pool.more_checks):
            yield f"pool {name}: {part}"


def _outlier(old: Outlier | None, new: Outlier | None) -> Iterator[str]:
    keys = Outlier.model_fields
    if old and new:
        yield from _keys(old, new, keys)
    elif old != new:
        was, now = (
            ", ".join(f"{key} {_setting(getattr(one, key))}" for key in keys) if one else "none"
            for one in (old, new)
        )
        yield f"{was} -> {now}"


def _further_checks(
    old: Mapping[str, FurtherCheck], new: Mapping[str, FurtherCheck]
) -> Iterator[str]:
    for name, check in new.items():
        if name not in old:
            yield f"check {name} added ({check.kind}, decides {check.decides})"
            continue
        for part in _keys(old[name], check, FurtherCheck.model_fields):
            yield f"check {name}: {part}"
    yield from (f"check {name} removed" for name in old if name not in new)


def _keys(old: Part, new: Part, keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        was, now = getattr(old, key), getattr(new, key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            # Of a request's headers: what they have may be nobody else's to know.
            if names := sorted(one for one in {*was, *now} if was.get(one) != now.get(one)):
                yield f"{key} {', '.join(names)} changed"
        elif was != now:
            yield f"{key} {_setting(was)} -> {_setting(now)}"


def _setting(value: object) -> str:
    """As the file has it."""
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "by default" if value is None else _written(value)


def panics(old: DesiredState | None, new: DesiredState) -> Iterator[tuple[str, bool, str]]:
    """Pools whose panic began (True) or is over, each with how its servers are."""
    before = {pool.name: pool for pool in old.pools if pool.is_in_panic()} if old else {}
    for pool in new.pools:
        if (now := pool.is_in_panic()) != (pool.name in before):
            counted = pool.counted()
            if not now:
                # Those that drain by a check counted in the panic, and drain again behind it.
                was = {one.name: one.state for one in before[pool.name].servers}
                counted += [
                    one
                    for one in pool.servers
                    if one.state is ServerState.DRAIN
                    and was.get(one.name) is ServerState.PANIC
                    and one.weight
                    and not one.backup
                ]
            up = sum(one.state is ServerState.UP for one in counted)
            yield pool.name, now, f"{up} of {_count(len(counted), 'server')} up"


def changed_server_states(
    old: DesiredState | None, new: DesiredState
) -> Mapping[ServerKey, ServerState] | None:
    """The server states that differ where nothing else does, else None."""
    if old is None or not _alike(old, new):
        return None
    before = old.server_states()
    return {key: state for key, state in new.server_states().items() if before[key] != state}


def _alike(old: DesiredState, new: DesiredState) -> bool:
    """Whether nothing but server states differs. Asked at each change of a server's health."""
    if replace(old, pools=()) != replace(new, pools=()) or len(old.pools) != len(new.pools):
        return False
    return all(
        replace(before, servers=()) == replace(after, servers=())
        and list(map(_but_state, before.servers)) == list(map(_but_state, after.servers))
        for before, after in zip(old.pools, new.pools, strict=True)
    )


# A field that is added to a server counts by itself.
_but_state = attrgetter(*(field.name for field in fields(DesiredServer) if field.name != "state"))


def _inventory(state: DesiredState) -> str:
    servers = sum(len(pool.servers) for pool in state.pools)
    return (
        f"{_count(len(state.listeners), 'listener')}, {_count(len(state.pools), 'pool')},"
        f" {_count(servers, 'server')}"
    )


def _count(number: int, word: str, plural: str = "s") -> str:
    return f"{number} {word}{'' if number == 1 else plural}"


# --- fields ----------------------------------------------------------------

# Says how a field changed, by its name and both values.
_Says = Callable[[str, Any, Any], Iterable[str]]


def _fields(old: Struct, new: Struct) -> Iterator[str]:
    """A part or more for each field that differs."""
    says = _SAYS.get(type(new), {})
    for name in new.__struct_fields__:
        was, now = getattr(old, name), getattr(new, name)
        if was != now:
            yield from says.get(name, _plainly)(name, was, now)


def _plainly(name: str, was: Any, now: Any) -> Iterator[str]:
    """`weight 100 -> 50`; of what has fields those that differ, as `drain quiet 5s -> 9s`."""
    some = was if now is None else now
    if not isinstance(some, Struct) or type(some) in _WRITTEN:
        yield f"{name} {_written(was)} -> {_written(now)}"
        return
    for part in _parts_of(name, was, now):
        yield f"{name} {part}"


def _parts_of(_: str, was: Struct | None, now: Struct | None) -> Iterator[str]:
    """The fields that differ, without a name before them. What isn't there is like what is, without
    its limits.
    """
    if (some := was or now) is not None:
        none = dict.fromkeys(_LIMITS.get(type(some), some.__struct_fields__))
        absent = replace(some, **none)
        yield from _fields(was or absent, now or absent)


def _named(word: str, says: _Says = _plainly) -> _Says:
    """By another word than the field's own."""
    return lambda _, was, now: says(word, was, now)


def _as(write: Callable[[Any], str]) -> _Says:
    """With values that aren't written as others of their kind."""
    return lambda name, was, now: [f"{name} {write(was)} -> {write(now)}"]


def _either(yes: str, no: str) -> _Says:
    return lambda _, __, now: [yes if now else no]


def _prefixes(name: str, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[str]:
    """`deny: 10.0.0.0/8 added`, or how many where that would be a list that nobody reads."""
    were, are = frozenset(old), frozenset(new)
    parts = [
        f"{', '.join(some) if len(some) <= _SPELLED else _count(len(some), 'prefix', 'es')} {what}"
        for what, some in (
            ("added", [one for one in new if one not in were]),
            ("removed", [one for one in old if one not in are]),
        )
        if some
    ]
    yield f"{name}: {', '.join(parts) or 'in another order'}"


def _members(kind: str, added: Callable[[Any], str]) -> _Says:
    """What came, went or changed of one kind, matched by name."""

    def says(_: str, old: Sequence[_Named], new: Sequence[_Named]) -> Iterator[str]:
        before = {member.name: member for member in old}
        after = {member.name: member for member in new}
        for name, member in after.items():
            if name not in before:
                yield f"{kind} {name} added ({added(member)})"
            elif before[name] != member:
                for part in _fields(before[name], member):
                    yield f"{kind} {name}: {part}"
        for name in before:
            if name not in after:
                yield f"{kind} {name} removed"
        kept_before = [name for name in before if name in after]
        kept_after = [name for name in after if name in before]
        if kept_before != kept_after:
            yield f"{kind}s in another order"

    return says


def _new_listener(listener: DesiredListener) -> str:
    return f"{', '.join(listener.bind)}, pool {listener.pool}"


def _new_pool(pool: DesiredPool) -> str:
    return _count(len(pool.servers), "server")


def _new_server(server: DesiredServer) -> str:
    return f"{server.address}, weight {server.weight}{', backup' if server.backup else ''}"


def _written(value: Any) -> str:
    return _WRITTEN.get(type(value), str)(value)


# How values are written, by their kind; else as they are. All floats are seconds.
_WRITTEN: dict[type, Callable[[Any], str]] = {
    NoneType: lambda _: "none",
    float: format_duration,
    tuple: lambda values: ", ".join(map(_written, values)) or "none",
    DesiredLog: lambda log: f"{log.sessions} ({log.format})",
    DesiredRate: lambda rate: f"{format_rate(rate.count, rate.period)} ({rate.burst} at once)",
    DesiredQueue: lambda queue: f"{queue.length} for {format_duration(queue.wait)}",
}

# What there is none of where the whole isn't there; else of every field.
_LIMITS: dict[type[Struct], tuple[str, ...]] = {
    DesiredPerSource: ("sessions", "rate"),
    DesiredSticky: ("ttl",),
}

# Fields that aren't told plainly, by their name.
_SAYS: dict[type[Struct], dict[str, _Says]] = {
    DesiredState: {
        "room": _parts_of,
        "log": _named("session log"),
        "kernel": _parts_of,
        "denied": _prefixes,
        "listeners": _members("listener", _new_listener),
        "pools": _members("pool", _new_pool),
    },
    DesiredRoom: {"sessions": _named("session room"), "spare": _named("spare room")},
    DesiredDrain: {"quiet_opaque": _named("quiet where nothing can be read")},
    DesiredKernel: {
        "source_ports": _as(lambda ports: f"{ports[0]}-{ports[1]}"),
        "counted": _either(
            "flows count against max_sessions", "flows don't count against max_sessions any more"
        ),
    },
    DesiredListener: {
        "timeouts": _parts_of,
        "max_sessions": _named("limits.sessions"),
        "max_age": _as(lambda age: format_duration(age or 0)),
        "paused": _either("paused", "not paused any more"),
        "access": _parts_of,
        "per_source": _parts_of,
    },
    DesiredAccess: {
        "allow": _prefixes,
        "deny": _prefixes,
        "admits_others": _named("others", _as(lambda all: Others.ADMIT if all else Others.REFUSE)),
    },
    DesiredPerSource: {
        "sessions": _named("sessions per source"),
        "rate": _named("rate per source"),
        "source": _named("per_source"),
        "exempt": _prefixes,
    },
    DesiredHashKey: {"source": _parts_of, "seed": _as(repr)},
    DesiredSticky: {"source": _parts_of},
    DesiredPool: {"servers": _members("server", _new_server)},
    DesiredServer: {
        "source": _as(lambda addresses: " ".join(addresses) or "any"),
        "backup": _either("a backup", "not a backup any more"),
        "state": lambda _, was, now: [f"{was} -> {now}"],
    },
}
