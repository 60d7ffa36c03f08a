"""The data plane as the control plane sees it. The only importer of `_dataplane`.

Converts a DesiredState to the extension's specification and its errors to ours.
`Plane` is what everybody else depends on; tests put a fake in its place.
"""

import socket
from collections.abc import Mapping, Sequence
from typing import Protocol

from mailweir import _dataplane
from mailweir._dataplane import (
    Histogram,
    KernelPathStats,
    ListenerStats,
    LogStats,
    PoolStats,
    RelayStats,
    RoomStats,
    ServerStats,
    ServerTrouble,
    Session,
    SourcesStats,
    Stats,
    StickyStats,
)
from mailweir.errors import PlaneError, PlanePanic
from mailweir.spec import (
    DesiredListener,
    DesiredPerSource,
    DesiredPool,
    DesiredServer,
    DesiredState,
    ServerKey,
    ServerState,
)

__all__ = [
    "EmbeddedPlane",
    "Histogram",
    "KernelPathStats",
    "ListenerStats",
    "LogStats",
    "Plane",
    "PoolStats",
    "RelayStats",
    "RoomStats",
    "ServerStats",
    "ServerTrouble",
    "Session",
    "SourcesStats",
    "Stats",
    "StickyStats",
    "check",
    "kernel_path_flush",
    "kernel_path_is_built",
    "kernel_path_left",
]


class Plane(Protocol):
    """A running data plane."""

    def apply(self, state: DesiredState) -> int:
        """Make `state` the running one, whole or not at all; the new generation number.

        Binds sockets, so it can take a while. Raises PlaneError.
        """

    def set_server_states(self, states: Mapping[ServerKey, ServerState]) -> None:
        """Change what servers may be used for; those that aren't there are passed over."""

    def drain(self, *, to_successor: bool) -> None:
        """Stop accepting; sessions are cut as the drain's settings have it.

        Nobody listens afterwards, but with `to_successor`: then the queues are left to it.
        """

    def hurry(self) -> None:
        """While it drains: sessions leave at the next place for it, whatever the spread."""

    def listening(self) -> list[socket.socket]:
        """All listening sockets, by descriptors that the caller closes."""

    def stats(self) -> Stats:
        """Counters and gauges of this moment."""

    def sessions(
        self, *, listener: str | None, server: ServerKey | None, limit: int
    ) -> list[Session]:
        """Live sessions, the oldest first; None is any."""

    def next_server(self, pool: str, client: str) -> str | None:
        """Which server the next session of a client, an address, would get in a pool now."""

    def admission(self, listener: str, client: str) -> str | None:
        """The end reason by which a client would be refused now, None where it would be let in."""

    def kill(self, session: str) -> bool:
        """End a session by its id; False where there is none."""

    def kill_from(self, prefix: str) -> int:
        """End every session of a prefix; how many there were."""

    def reopen_logs(self) -> None:
        """Open the session log's file anew: it was moved away."""

    @property
    def wake_fd(self) -> int:
        """Readable while there are troubles or panics to take."""

    def take_troubles(self) -> list[ServerTrouble]:
        """Servers that failed sessions since the last call, each once."""

    def take_panics(self) -> list[PlanePanic]:
        """Threads that panicked since the last call. To be taken after the troubles."""

    def stop(self) -> None:
        """End every session and the worker threads. Waits for them."""


class EmbeddedPlane:
    """The Rust data plane, in threads of this process that never take the GIL."""

    def __init__(self, workers: int, kept: Sequence[socket.socket]) -> None:
        """Goes on with `kept`, listening sockets of an earlier process; closes them."""
        numbers = [one.fileno() for one in kept]
        self._plane = _dataplane.DataPlane(workers=workers, kept=numbers)
        for one in kept:
            one.close()

    def apply(self, state: DesiredState) -> int:
        try:
            return self._plane.apply(spec=_spec(state))
        except _dataplane.PlaneError as error:
            raise PlaneError(str(error)) from None

    def set_server_states(self, states: Mapping[ServerKey, ServerState]) -> None:
        changes = [
            _dataplane.ServerState(pool=key.pool, server=key.server, state=state)
            for key, state in states.items()
        ]
        self._plane.set_server_states(states=changes)

    def drain(self, *, to_successor: bool) -> None:
        self._plane.drain(to_successor=to_successor)

    def hurry(self) -> None:
        self._plane.hurry()

    def listening(self) -> list[socket.socket]:
        try:
            return [socket.socket(fileno=number) for number in self._plane.listening()]
        except _dataplane.PlaneError as error:
            raise PlaneError(str(error)) from None

    def stats(self) -> Stats:
        return self._plane.stats()

    def sessions(
        self, *, listener: str | None, server: ServerKey | None, limit: int
    ) -> list[Session]:
        return self._plane.sessions(listener=listener, server=server, limit=limit)

    def next_server(self, pool: str, client: str) -> str | None:
        return self._plane.next_server(pool=pool, client=client)

    def admission(self, listener: str, client: str) -> str | None:
        return self._plane.admission(listener=listener, client=client)

    def kill(self, session: str) -> bool:
        return self._plane.kill(id=session)

    def kill_from(self, prefix: str) -> int:
        return self._plane.kill_from(prefix=prefix)

    def reopen_logs(self) -> None:
        self._plane.reopen_logs()

    @property
    def wake_fd(self) -> int:
        return self._plane.wake_fd

    def take_troubles(self) -> list[ServerTrouble]:
        return self._plane.take_troubles()

    def take_panics(self) -> list[PlanePanic]:
        panics, more = self._plane.take_panics()
        said = [*panics, f"{more} more panics"] if more else panics
        return [PlanePanic(words) for words in said]

    def stop(self) -> None:
        self._plane.stop()


def check(state: DesiredState) -> None:
    """Raises PlaneError where `apply` would refuse the specification. Binds nothing."""
    try:
        _dataplane.check(spec=_spec(state))
    except _dataplane.PlaneError as error:
        raise PlaneError(str(error)) from None


def kernel_path_is_built() -> bool:
    """Whether there is one in this mailweir."""
    return _dataplane.kernel_path_is_built()


def kernel_path_left(instance: str) -> tuple[int, int, int] | None:
    """Sessions that an instance has in the kernel, whether its process runs or not, places beside
    them, and sessions of other versions; None where there is nothing. Raises PlaneError.
    """
    try:
        return _dataplane.kernel_path_left(instance=instance)
    except _dataplane.PlaneError as error:
        raise PlaneError(str(error)) from None


def kernel_path_flush(instance: str) -> None:
    """Remove everything that an instance has in the kernel. Raises PlaneError."""
    try:
        _dataplane.kernel_path_flush(instance=instance)
    except _dataplane.PlaneError as error:
        raise PlaneError(str(error)) from None


def _spec(state: DesiredState) -> _dataplane.PlaneSpec:
    return _dataplane.PlaneSpec(
        hostname=state.hostname,
        max_sessions=state.max_sessions,
        room=_dataplane.Room(sessions=state.room.sessions, spare=state.room.spare),
        drain=_dataplane.Drain(
            quiet=state.drain.quiet,
            quiet_opaque=state.drain.quiet_opaque,
            spread=state.drain.spread,
            deadline=state.drain.deadline,
        ),
        log=_dataplane.Log(sessions=state.log.sessions, format=state.log.format),
        kernel=_dataplane.Kernel(
            instance=state.kernel.instance,
            source_ports=state.kernel.source_ports,
            max_flows=state.kernel.max_flows,
            counted=state.kernel.counted,
        ),
        listeners=[_listener(listener) for listener in state.listeners],
        pools=[_pool(pool) for pool in state.pools],
        denied=list(state.denied),
    )


def _listener(listener: DesiredListener) -> _dataplane.ListenerSpec:
    timeouts = listener.timeouts
    return _dataplane.ListenerSpec(
        name=listener.name,
        bind=list(listener.bind),
        protocol=listener.protocol,
        pool=listener.pool,
        timeouts=_dataplane.Timeouts(
            connect=timeouts.connect,
            greeting=timeouts.greeting,
            accept_total=timeouts.accept_total,
            idle_client=timeouts.idle_client,
            idle_server=timeouts.idle_server,
            half_closed=timeouts.half_closed,
        ),
        max_sessions=listener.max_sessions,
        max_age=listener.max_age,
        forwarding=listener.forwarding,
        paused=listener.paused,
        allow=list(listener.access.allow),
        deny=list(listener.access.deny),
        admits_others=listener.access.admits_others,
        deny_code=listener.access.deny_code,
        refuse=listener.refuse,
        per_source=_per_source(listener.per_source) if listener.per_source else None,
        dry_run=list(listener.dry_run),
    )


def _per_source(limits: DesiredPerSource) -> _dataplane.PerSource:
    rate = limits.rate
    return _dataplane.PerSource(
        sessions=limits.sessions,
        rate=_dataplane.Rate(count=rate.count, seconds=rate.seconds, burst=rate.burst)
        if rate
        else None,
        prefix4=limits.prefix4,
        prefix6=limits.prefix6,
        exempt=list(limits.exempt),
    )


def _pool(pool: DesiredPool) -> _dataplane.PoolSpec:
    key, sticky, queue = pool.hash_key, pool.sticky, pool.queue
    return _dataplane.PoolSpec(
        name=pool.name,
        balance=pool.balance,
        servers=[_server(server) for server in pool.servers],
        hash_key=_dataplane.HashKey(prefix4=key.prefix4, prefix6=key.prefix6, seed=key.seed),
        sticky=_dataplane.Sticky(prefix4=sticky.prefix4, prefix6=sticky.prefix6, ttl=sticky.ttl)
        if sticky
        else None,
        slow_start=pool.slow_start,
        queue=_dataplane.Queue(length=queue.length, wait=queue.wait) if queue else None,
    )


def _server(server: DesiredServer) -> _dataplane.ServerSpec:
    return _dataplane.ServerSpec(
        name=server.name,
        address=server.address,
        weight=server.weight,
        state=server.state,
        max_sessions=server.max_sessions,
        proxy=server.proxy,
        source=list(server.source),
        backup=server.backup,
    )
