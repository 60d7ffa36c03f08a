"""The fold: configuration, health and operators' words in, DesiredState out. Pure.

Called by the daemon.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

from msgspec.structs import replace

from mailweir.config.listener import Listener, PerSource
from mailweir.config.model import Config, Drain
from mailweir.config.pool import Pool, Server
from mailweir.config.words import DryRun, Forwarding, OnDown, Others
from mailweir.instance import instance_of
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
    DesiredSource,
    DesiredState,
    DesiredSticky,
    DesiredTimeouts,
    ServerKey,
    ServerState,
)
from mailweir.state.overrides import Overrides, shared

# Seconds of silence before a cut where nothing can be read of what is said (TLS) or where an
# answer may belong to an earlier chunk (BDAT, RFC 3030).
_QUIET_OPAQUE = 30.0


class Health(StrEnum):
    """What the checks say of a server. DRAIN is what a server says of itself: it is there, and
    wants no new sessions for now (421, a full disk).
    """

    UNKNOWN = "unknown"
    UP = "up"
    DRAIN = "drain"
    DOWN = "down"


_BY_HEALTH = {
    Health.UNKNOWN: ServerState.DOWN,
    Health.UP: ServerState.UP,
    Health.DRAIN: ServerState.DRAIN,
    Health.DOWN: ServerState.DOWN,
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What an agent on a server says that it is to have; None and 1 where it says nothing."""

    state: Literal[ServerState.DRAIN, ServerState.MAINT] | None = None
    share: float = 1.0
    max_sessions: int | None = None

    def both(self, other: "Wish") -> "Wish":
        """What two agents of a server come to: the stricter word of each kind."""
        states = {self.state, other.state}
        caps = [one for one in (self.max_sessions, other.max_sessions) if one is not None]
        return Wish(
            next((one for one in (ServerState.MAINT, ServerState.DRAIN) if one in states), None),
            min(self.share, other.share),
            min(caps, default=None),
        )


NO_WISH = Wish()


def fold(
    config: Config,
    health: Mapping[ServerKey, Health],
    overrides: Overrides,
    *,
    hostname: str,
    room: DesiredRoom,
    wishes: Mapping[ServerKey, Wish] = MappingProxyType({}),
    ejected: Set[ServerKey] = frozenset(),
) -> DesiredState:
    """What the data plane is to do. `room` is what descriptors and memory are enough for.

    What operators said counts more than the configuration and, of servers that are to be out
    of use, more than their health. What an agent wishes counts less than their words, and more
    than the configuration: but no server gets more sessions than that has.

    A server is up only where a check said so: one that nobody has checked yet (not in
    `health`, or unknown) is down, since a session sent to it might wait in vain. Where too few
    of a pool are up, those that checks took out (down, drain) are used all the same (panic).
    Of `ejected` servers, which spoiled sessions, those that would be up get no new ones, as long as
    others do and that brings no panic.
    """
    return DesiredState(
        hostname=hostname,
        max_sessions=config.max_sessions or room.sessions,
        room=room,
        drain=_drain(config.drain),
        log=DesiredLog(sessions=config.log.sessions, format=config.log.format),
        kernel=DesiredKernel(
            instance=instance_of(config.state_dir),
            source_ports=(config.source_ports[0], config.source_ports[-1]),
            max_flows=config.max_flows,
            # They take nothing of what it is derived from otherwise.
            counted=config.max_sessions is not None,
        ),
        listeners=tuple(
            _listener(name, li, config.forwarding, paused=overrides.pause_of(name) is not None)
            for name, li in config.listeners.items()
        ),
        pools=tuple(
            _pool(name, pool, _Known(health, wishes, overrides, ejected))
            for name, pool in config.pools.items()
        ),
        denied=tuple(overrides.denied),
    )


def ending(
    config: Config, desired: DesiredState, health: Mapping[ServerKey, Health]
) -> frozenset[ServerKey]:
    """Servers whose sessions are to end since checks call them down (`on_down: end`). Not in a
    panic, where the checks are more likely wrong, nor where nobody has checked yet.
    """
    return frozenset(
        key
        for pool in desired.pools
        if config.pools[pool.name].on_down is OnDown.END
        for server in pool.servers
        if server.state is ServerState.DOWN
        and health.get(key := ServerKey(pool.name, server.name)) is Health.DOWN
    )


def _drain(drain: Drain) -> DesiredDrain:
    return DesiredDrain(
        quiet=drain.quiet,
        quiet_opaque=max(_QUIET_OPAQUE, drain.quiet),
        spread=drain.spread,
        deadline=drain.deadline,
    )


def _listener(
    name: str, listener: Listener, forwarding: Forwarding, *, paused: bool
) -> DesiredListener:
    timeouts = listener.timeouts
    allow, deny = listener.lists_in_effect
    return DesiredListener(
        name=name,
        bind=tuple(str(address) for address in listener.bind),
        protocol=listener.protocol,
        pool=listener.pool,
        timeouts=DesiredTimeouts(
            connect=timeouts.connect,
            greeting=timeouts.greeting,
            accept_total=timeouts.accept_total,
            idle_client=timeouts.idle_client,
            idle_server=timeouts.idle_server,
            half_closed=timeouts.half_closed,
        ),
        max_sessions=listener.limits.sessions,
        max_age=listener.max_age or None,
        forwarding=listener.forwarding or forwarding,
        paused=paused,
        access=DesiredAccess(
            allow=allow,
            deny=deny,
            admits_others=listener.others_in_effect is Others.ADMIT,
            deny_code=listener.deny_code,
        ),
        refuse=listener.refuse,
        per_source=_per_source(listener.limits.per_source),
        dry_run=_dry_run(listener.limits.dry_run),
    )


def _per_source(limits: PerSource) -> DesiredPerSource | None:
    rate = limits.rate
    if limits.sessions is None and rate is None:
        return None
    return DesiredPerSource(
        source=DesiredSource(limits.prefix4, limits.prefix6),
        sessions=limits.sessions,
        rate=DesiredRate(rate.count, rate.seconds, limits.burst or rate.count) if rate else None,
        exempt=limits.exempt.every,
    )


def _dry_run(given: bool | list[DryRun]) -> tuple[DryRun, ...]:
    """Those of a list in one order, each once."""
    if isinstance(given, bool):
        return tuple(DryRun) if given else ()
    return tuple(word for word in DryRun if word in given)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of servers beside the configuration."""

    health: Mapping[ServerKey, Health]
    wishes: Mapping[ServerKey, Wish]
    overrides: Overrides
    ejected: Set[ServerKey]

    def state(self, key: ServerKey) -> ServerState:
        """Who operates says more than an agent, and an agent more than the checks."""
        told = self.overrides.server_state(key) or self.wishes.get(key, NO_WISH).state
        found = told or _BY_HEALTH[self.health.get(key, Health.UNKNOWN)]
        return ServerState.EJECTED if found is ServerState.UP and key in self.ejected else found

    def is_out_by_checks(self, key: ServerKey) -> bool:
        """Whether checks alone keep a server from sessions, and not for want of a first one."""
        if self.overrides.server_state(key) or self.wishes.get(key, NO_WISH).state:
            return False
        return self.health.get(key) in (Health.DOWN, Health.DRAIN)


def _pool(name: str, pool: Pool, known: _Known) -> DesiredPool:
    key, sticky, queue = pool.hash_key, pool.sticky, pool.queue
    desired = DesiredPool(
        name=name,
        balance=pool.balance,
        servers=tuple(
            _server(ServerKey(name, server_name), server, known)
            for server_name, server in pool.servers.items()
        ),
        hash_key=DesiredHashKey(DesiredSource(key.prefix4, key.prefix6), key.seed),
        sticky=DesiredSticky(DesiredSource(sticky.prefix4, sticky.prefix6), sticky.ttl)
        if sticky
        else None,
        slow_start=pool.slow_start,
        queue=DesiredQueue(queue.length, queue.wait) if queue else None,
        overflow=tuple(pool.overflow),
    )
    if not _panics(desired, known, pool.panic) and any(map(_takes, desired.servers)):
        return desired
    # Those that spoil sessions are better than none, or than those that are down.
    desired = replace(desired, servers=tuple(map(_not_ejected, desired.servers)))
    return _panicking(desired, known) if _panics(desired, known, pool.panic) else desired


def _server(key: ServerKey, server: Server, known: _Known) -> DesiredServer:
    weighs = known.overrides.weights.get(str(key))
    wish = known.wishes.get(key, NO_WISH)
    caps = [cap for cap in (server.max_sessions, wish.max_sessions) if cap is not None]
    return DesiredServer(
        name=key.server,
        address=str(server.address),
        weight=weighs.weight_for(server.weight) if weighs else shared(server.weight, wish.share),
        state=known.state(key),
        max_sessions=min(caps, default=None),
        proxy=server.proxy,
        source=tuple(str(ip) for ip in server.source),
        backup=server.backup,
    )


def _panics(pool: DesiredPool, known: _Known, share: float) -> bool:
    # As it is in a panic: there it counts that checks say drain, not that operators do.
    return _too_few_are_up(_panicking(pool, known), share)


def _takes(server: DesiredServer) -> bool:
    return server.state is ServerState.UP and server.weight > 0


def _not_ejected(server: DesiredServer) -> DesiredServer:
    is_out = server.state is ServerState.EJECTED
    return replace(server, state=ServerState.UP) if is_out else server


def _too_few_are_up(pool: DesiredPool, share: float) -> bool:
    """Whether it is less than `share` of those that count.

    Not where a backup can stand in for all of them: it is there for that.
    """
    counted = pool.counted()
    up = sum(one.state is ServerState.UP for one in counted)
    if up == 0 and any(_stands_in(one) for one in pool.servers):
        return False
    # A quotient as the share is one: exact where both are the same.
    return bool(counted) and up / len(counted) < share


def _stands_in(server: DesiredServer) -> bool:
    return server.backup and _takes(server)


def _panicking(pool: DesiredPool, known: _Known) -> DesiredPool:
    """With those that checks took out in use; one that nobody has checked yet stays down."""

    def used(server: DesiredServer) -> DesiredServer:
        out = known.is_out_by_checks(ServerKey(pool.name, server.name)) and server.weight > 0
        return replace(server, state=ServerState.PANIC) if out else server

    return replace(pool, servers=tuple(map(used, pool.servers)))
