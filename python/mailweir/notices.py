"""Every limit, refusal and fallback in one line, now and then: what the log says of counters."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

import structlog

from mailweir.stats import (
    KernelPathStats,
    ListenerStats,
    LogStats,
    OverflowStats,
    PoolStats,
    RoomStats,
    SourcesStats,
    Stats,
)

# Seconds between two readings of the counters: a flood of refusals is a line each time.
_EVERY = 10.0
# End reasons of sessions that were refused.
REFUSALS = (
    "no_server",
    "draining",
    "maintenance",
    "paused",
    "full",
    "connect_failed",
    "greeting_failed",
    "rejected",
    "out_of_descriptors",
    "denied",
    "source_sessions",
    "source_rate",
    "queue_timeout",
)

_NO_KERNEL_PATH = "there is no kernel path, sessions take the relay"

_TRANSLATED = "sessions take the relay: this host translates their addresses"

# A line: the event and its fields.
Notice = tuple[str, dict[str, object]]

_log = structlog.get_logger("mailweir")


async def notice(stats: Callable[[], Stats]) -> None:
    """Read the counters now and then and say what happened meanwhile. Until it is cancelled."""
    last = stats()
    if last.no_kernel_path:
        _log.warning(_NO_KERNEL_PATH, reason=last.no_kernel_path.told)
    elif last.kernel_path:
        for event, fields in _of_kernel_path(None, last.kernel_path):
            _log.warning(event, **fields)
    while True:
        await asyncio.sleep(_EVERY)
        now = stats()
        for event, fields in notices(last, now):
            _log.warning(event, **fields)
        last = now


def notices(old: Stats, new: Stats) -> Iterator[Notice]:
    """What happened between two readings that an operator should hear of. Pure."""
    before = {listener.name: listener for listener in old.listeners}
    for listener in new.listeners:
        yield from _of_listener(before.get(listener.name), listener)
    yield from _of_pools(old.pools, new.pools)
    yield from _of_room(old.room, new.room)
    fallbacks = new.relay.pipe_fallbacks - old.relay.pipe_fallbacks
    if old.relay.pipe_budget and not new.relay.pipe_budget:
        yield "bytes are copied: the system refuses splice(2)", {}
    elif new.relay.pipe_budget and fallbacks > 0:
        yield (
            "bytes are copied for want of pipes",
            {"times": fallbacks, "budget": new.relay.pipe_budget},
        )
    if new.no_kernel_path and not old.no_kernel_path:
        yield _NO_KERNEL_PATH, {"reason": new.no_kernel_path.told}
    if new.kernel_path:
        yield from _of_kernel_path(old.kernel_path, new.kernel_path)
    yield from _of_log(old.log, new.log)
    for worker in sorted(set(new.stuck_workers()) - set(old.stuck_workers())):
        yield "a worker is stuck, its listeners are out of use", {"worker": worker}
    for worker in sorted(set(old.stuck_workers()) - set(new.stuck_workers())):
        yield "a worker moves again", {"worker": worker}


def _of_log(old: LogStats, new: LogStats) -> Iterator[Notice]:
    dropped, errors = new.dropped - old.dropped, new.errors - old.errors
    if dropped > 0:
        yield (
            "sessions are missing from the session log",
            {"sessions": dropped, "reason": new.last_error or "it can't keep up"},
        )
    elif errors > 0:
        yield "the session log can't be opened or written", {"reason": new.last_error}


def _of_kernel_path(old: KernelPathStats | None, new: KernelPathStats) -> Iterator[Notice]:
    times = new.taken_off - (old.taken_off if old else 0)
    if times > 0:
        yield "somebody took the kernel path's program off an interface", {"times": times}
    times = new.unpinned - (old.unpinned if old else 0)
    if times > 0:
        yield "somebody removed the kernel path's pins", {"times": times}
    if new.earlier and not old:
        yield "sessions of another version go on by themselves", {"sessions": new.earlier}
    if old and old.earlier and not new.earlier:
        yield "sessions of another version have ended", {}
    if new.max_flows < new.wanted_flows and not old:
        yield (
            "the kernel path has fewer places than max_flows, those that its flows began with",
            {"places": new.max_flows, "max_flows": new.wanted_flows},
        )
    if new.ends_with_process and not (old and old.ends_with_process):
        yield "flows end with the process", {"reason": new.ends_with_process}
    for interface in sorted(set(new.not_at) - set(old.not_at if old else ())):
        yield (
            "the kernel path's program can't be attached",
            {"interface": interface, "reason": new.not_at[interface]},
        )
    if new.refusals.get("nat", 0) and not (old and old.refusals.get("nat", 0)):
        yield _TRANSLATED, {}


def _of_pools(old: Sequence[PoolStats], new: Sequence[PoolStats]) -> Iterator[Notice]:
    before = {pool.name: pool.overflow for pool in old}
    for pool in new:
        if pool.overflow:
            yield from _of_overflow(pool.name, before.get(pool.name), pool.overflow)


def _of_overflow(pool: str, old: OverflowStats | None, new: OverflowStats) -> Iterator[Notice]:
    """Where it begins, ends, or is one session at a time."""
    was_home = old is None or old.course == "home"
    has_begun = new.begun > (old.begun if old else 0)
    if has_begun:
        yield "a pool overflows: none of its servers is up", {"pool": pool}
    for to, number in new.sessions.items():
        more = number - (old.sessions.get(to, 0) if old else 0)
        if more > 0:
            yield "sessions went to another pool", {"pool": pool, "to": to, "sessions": more}
    # Before its first server is up a pool has had no sessions that come back.
    if new.course == "home" and new.begun and (has_begun or not was_home):
        yield "a pool has its sessions again", {"pool": pool}


def _of_room(old: RoomStats, new: RoomStats) -> Iterator[Notice]:
    if new.hurried > old.hurried:
        yield (
            "connections were closed at once: as many linger as may",
            {"connections": new.hurried - old.hurried, "most": new.spare},
        )


def _of_listener(old: ListenerStats | None, new: ListenerStats) -> Iterator[Notice]:
    for reason in REFUSALS:
        number = new.ended.get(reason, 0) - (old.ended.get(reason, 0) if old else 0)
        if number > 0:
            yield (
                "sessions were refused",
                {"listener": new.name, "reason": reason, "sessions": number},
            )
    for limit, now in new.would_refuse.items():
        number = now - (old.would_refuse.get(limit, 0) if old else 0)
        if number > 0:
            yield (
                "sessions would have been refused, were it not for dry_run",
                {"listener": new.name, "limit": limit, "sessions": number},
            )
    if new.sources:
        yield from _of_sources(new.name, old.sources if old else None, new.sources)
    pauses = new.accept_pauses - (old.accept_pauses if old else 0)
    if pauses > 0:
        yield (
            "accepting paused: no descriptors or memory left",
            {"listener": new.name, "times": pauses},
        )


def _of_sources(listener: str, old: SourcesStats | None, new: SourcesStats) -> Iterator[Notice]:
    evicted = new.evicted - (old.evicted if old else 0)
    untracked = new.untracked - (old.untracked if old else 0)
    fields = {"listener": listener, "places": new.places}
    if evicted > 0:
        yield (
            "sources are forgotten early: more come than are remembered",
            fields | {"sources": evicted},
        )
    if untracked > 0:
        yield (
            "sessions aren't counted to their sources: every place is taken",
            fields | {"sessions": untracked},
        )
