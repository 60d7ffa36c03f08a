"""What changed between two desired states, as one sentence: the log line. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import TypeVar

from msgspec.structs import fields, replace

from mailweir.config.model import Config
from mailweir.config.units import format_duration, format_rate
from mailweir.config.words import Others
from mailweir.spec import (
    DesiredListener,
    DesiredPerSource,
    DesiredPool,
    DesiredQueue,
    DesiredRate,
    DesiredServer,
    DesiredSource,
    DesiredState,
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
    return [*_parts(old, new), *settings]


def settings(old: Config, new: Config) -> Iterator[str]:
    """What changed of what the data plane isn't told: who may ask, checks, panic, the pair."""
    if old.ha != new.ha:
        yield "ha changed: mailweir ha has to be told (HUP)"
    for key in ("operators", "readers", "hosts"):
        were, are = getattr(old.admin, key), getattr(new.admin, key)
        if were != are:
            yield f"admin: {key} {' '.join(were) or 'none'} -> {' '.join(are) or 'none'}"
    for name, pool in new.pools.items():
        if name not in old.pools:
            continue
        before = old.pools[name]
        if before.panic != pool.panic:
            yield f"pool {name}: panic {before.panic} -> {pool.panic}"
        before_check, after_check = before.check, pool.check
        for key in type(after_check).model_fields:
            was, now = getattr(before_check, key), getattr(after_check, key)
            if was != now:
                yield f"pool {name}: check {key} {_written(was)} -> {_written(now)}"


def _written(value: object) -> str:
    """A setting as the file has it."""
    if isinstance(value, float):
        return format_duration(value)
    return "by default" if value is None else str(value)


def panics(old: DesiredState | None, new: DesiredState) -> Iterator[tuple[str, bool, str]]:
    """Pools whose panic began (True) or is over, each with how its servers are."""
    before = {pool.name for pool in old.pools if pool.is_in_panic()} if old else set()
    for pool in new.pools:
        if (now := pool.is_in_panic()) != (pool.name in before):
            counted = pool.counted()
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


def _parts(old: DesiredState, new: DesiredState) -> Iterator[str]:
    if old.hostname != new.hostname:
        yield f"hostname {old.hostname} -> {new.hostname}"
    if old.max_sessions != new.max_sessions:
        yield f"max_sessions {old.max_sessions} -> {new.max_sessions}"
    for name in ("quiet", "spread", "deadline"):
        was, now = getattr(old.drain, name), getattr(new.drain, name)
        if was != now:
            yield f"drain {name} {format_duration(was)} -> {format_duration(now)}"
    if old.log != new.log:
        was, now = (f"{log.sessions} ({log.format})" for log in (old.log, new.log))
        yield f"session log {was} -> {now}"
    if old.kernel != new.kernel:
        yield "source_ports or max_flows changed, which takes a restart"
    yield from _prefixes("denied", old.denied, new.denied)
    yield from _members("listener", old.listeners, new.listeners, _new_listener, _listener)
    yield from _members("pool", old.pools, new.pools, _new_pool, _pool)


def _members(
    kind: str,
    old: Sequence[_Named],
    new: Sequence[_Named],
    added: Callable[[_Named], str],
    changed: Callable[[_Named, _Named], Iterable[str]],
) -> Iterator[str]:
    """Parts for members of one kind that came, went or changed, matched by name."""
    before = {member.name: member for member in old}
    after = {member.name: member for member in new}
    for name, member in after.items():
        if name not in before:
            yield f"{kind} {name} added ({added(member)})"
        else:
            for part in changed(before[name], member):
                yield f"{kind} {name}: {part}"
    for name in before:
        if name not in after:
            yield f"{kind} {name} removed"
    kept_before = [name for name in before if name in after]
    kept_after = [name for name in after if name in before]
    if kept_before != kept_after:
        yield f"{kind}s in another order"


def _new_listener(listener: DesiredListener) -> str:
    return f"{', '.join(listener.bind)}, pool {listener.pool}"


def _new_pool(pool: DesiredPool) -> str:
    return _count(len(pool.servers), "server")


def _new_server(server: DesiredServer) -> str:
    return f"{server.address}, weight {server.weight}{', backup' if server.backup else ''}"


def _listener(old: DesiredListener, new: DesiredListener) -> Iterator[str]:
    if old.bind != new.bind:
        yield f"bind {', '.join(old.bind)} -> {', '.join(new.bind)}"
    if old.protocol != new.protocol:
        yield f"protocol {old.protocol} -> {new.protocol}"
    if old.pool != new.pool:
        yield f"pool {old.pool} -> {new.pool}"
    for field in fields(old.timeouts):
        before, after = getattr(old.timeouts, field.name), getattr(new.timeouts, field.name)
        if before != after:
            yield f"{field.name} {format_duration(before)} -> {format_duration(after)}"
    if old.max_sessions != new.max_sessions:
        yield f"max_sessions {_limit(old.max_sessions)} -> {_limit(new.max_sessions)}"
    if old.max_age != new.max_age:
        yield f"max_age {format_duration(old.max_age or 0)} -> {format_duration(new.max_age or 0)}"
    if old.forwarding != new.forwarding:
        yield f"forwarding {old.forwarding} -> {new.forwarding}"
    if old.paused != new.paused:
        yield "paused" if new.paused else "not paused any more"
    yield from _admission(old, new)


def _admission(old: DesiredListener, new: DesiredListener) -> Iterator[str]:
    yield from _prefixes("allow", old.access.allow, new.access.allow)
    yield from _prefixes("deny", old.access.deny, new.access.deny)
    if old.access.admits_others != new.access.admits_others:
        yield f"others {_others(old.access.admits_others)} -> {_others(new.access.admits_others)}"
    if old.access.deny_code != new.access.deny_code:
        yield f"deny_code {old.access.deny_code} -> {new.access.deny_code}"
    if old.refuse != new.refuse:
        yield f"refuse {old.refuse} -> {new.refuse}"
    yield from _per_source(old.per_source, new.per_source)
    if old.dry_run != new.dry_run:
        was, now = (", ".join(words) or "none" for words in (old.dry_run, new.dry_run))
        yield f"dry_run {was} -> {now}"


def _others(admitted: bool) -> str:
    return Others.ADMIT if admitted else Others.REFUSE


def _prefixes(name: str, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[str]:
    """`deny: 10.0.0.0/8 added`, or how many where that would be a list that nobody reads."""
    if old == new:
        return
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


def _per_source(old: DesiredPerSource | None, new: DesiredPerSource | None) -> Iterator[str]:
    some = old or new
    if some is None:
        return
    unlimited = replace(some, sessions=None, rate=None)
    before, after = old or unlimited, new or unlimited
    if before.sessions != after.sessions:
        yield f"sessions per source {_limit(before.sessions)} -> {_limit(after.sessions)}"
    if before.rate != after.rate:
        yield f"rate per source {_rate(before.rate)} -> {_rate(after.rate)}"
    yield from _bits("per_source", before.source, after.source)
    yield from _prefixes("exempt", before.exempt, after.exempt)


def _rate(rate: DesiredRate | None) -> str:
    if rate is None:
        return "none"
    return f"{format_rate(rate.count, rate.period)} ({rate.burst} at once)"


def _bits(name: str, old: DesiredSource, new: DesiredSource) -> Iterator[str]:
    """Which sources are one."""
    if old.prefix4 != new.prefix4:
        yield f"{name} prefix4 {old.prefix4} -> {new.prefix4}"
    if old.prefix6 != new.prefix6:
        yield f"{name} prefix6 {old.prefix6} -> {new.prefix6}"


def _limit(number: int | None) -> str:
    return "none" if number is None else str(number)


def _pool(old: DesiredPool, new: DesiredPool) -> Iterator[str]:
    if old.balance != new.balance:
        yield f"balance {old.balance} -> {new.balance}"
    yield from _bits("hash_key", old.hash_key.source, new.hash_key.source)
    if old.hash_key.seed != new.hash_key.seed:
        yield f"hash_key seed {old.hash_key.seed!r} -> {new.hash_key.seed!r}"
    if old.sticky and new.sticky:
        yield from _bits("sticky", old.sticky.source, new.sticky.source)
    was, now = (format_duration(one.ttl) if one else "none" for one in (old.sticky, new.sticky))
    if was != now:
        yield f"sticky ttl {was} -> {now}"
    if old.slow_start != new.slow_start:
        was, now = map(format_duration, (old.slow_start, new.slow_start))
        yield f"slow_start {was} -> {now}"
    if old.queue != new.queue:
        yield f"queue {_queue(old.queue)} -> {_queue(new.queue)}"
    yield from _members("server", old.servers, new.servers, _new_server, _server)


def _queue(queue: DesiredQueue | None) -> str:
    return f"{queue.length} for {format_duration(queue.wait)}" if queue else "none"


def _server(old: DesiredServer, new: DesiredServer) -> Iterator[str]:
    if old.address != new.address:
        yield f"address {old.address} -> {new.address}"
    if old.weight != new.weight:
        yield f"weight {old.weight} -> {new.weight}"
    if old.max_sessions != new.max_sessions:
        yield f"max_sessions {_limit(old.max_sessions)} -> {_limit(new.max_sessions)}"
    if old.proxy != new.proxy:
        yield f"proxy {old.proxy} -> {new.proxy}"
    if old.source != new.source:
        yield f"source {' '.join(old.source) or 'any'} -> {' '.join(new.source) or 'any'}"
    if old.backup != new.backup:
        yield "a backup" if new.backup else "not a backup any more"
    if old.state != new.state:
        yield f"{old.state} -> {new.state}"
