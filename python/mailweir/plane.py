"""The data plane as the control plane sees it. The only importer of `_dataplane`.

Hands values over and takes them as JSON, and makes the extension's errors ours. `Plane` is what
everybody else depends on; tests put a fake in its place.
"""

import socket
from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec.json import Decoder, encode

from mailweir import _dataplane
from mailweir.errors import PlaneError, PlanePanic
from mailweir.spec import DesiredState, Elsewhere, ServerKey, ServerState
from mailweir.stats import (
    Admission,
    PoolConduct,
    RefusedSource,
    ServerStats,
    ServerTrouble,
    Session,
    Stats,
)

_stats = Decoder(Stats)
_sessions = Decoder(list[Session])
_servers = Decoder(list[ServerStats])
_conduct = Decoder(list[PoolConduct])
_troubles = Decoder(list[ServerTrouble])
_admission = Decoder(Admission)
_refused = Decoder(list[RefusedSource])


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

    def hand_over(self) -> None:
        """Leave the listening sockets and what is in the kernel to the next process, which lives
        already. The other sessions go on to their end. Waits for that.
        """

    def set_elsewhere(self, elsewhere: Elsewhere) -> None:
        """Have sessions that another process has still count against the limits here."""

    def hurry(self) -> None:
        """While it drains: sessions leave at the next place for it, whatever the spread."""

    def listening(self) -> list[socket.socket]:
        """All listening sockets, by descriptors that the caller closes."""

    def stats(self) -> Stats:
        """Counters and gauges of this moment, but those of servers."""

    def servers(self, *, with_times: bool = False) -> list[ServerStats]:
        """Servers at this moment, in the specification's order, pool by pool.

        There may be thousands: 45 ms for 10 000 of them, and 30 more for their times.
        """

    def conduct(self) -> list[PoolConduct]:
        """What servers have done to sessions, pool by pool."""

    def sessions(
        self, *, listener: str | None, server: ServerKey | None, client: str | None, limit: int
    ) -> list[Session]:
        """Live sessions, the oldest first; `client` is a prefix. None is any."""

    def next_server(self, pool: str, client: str) -> ServerKey | None:
        """Which server the next session of a client, an address, would get in a pool now, or in one
        that it overflows into.
        """

    def admission(self, listener: str, client: str) -> Admission:
        """What would become of a client, an address, at a listener now."""

    def refused(self, *, listener: str | None, limit: int) -> list[RefusedSource]:
        """The sources that a listener, or any, refused most: those first."""

    def kill(self, session: str) -> bool:
        """End a session by its id; False where there is none."""

    def kill_from(self, prefix: str) -> int:
        """End every session of a prefix; how many there were."""

    def end_of_server(self, key: ServerKey) -> int:
        """End every session of a server, which is down; how many there were."""

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
            return self._plane.apply(spec=encode(state))
        except _dataplane.PlaneError as error:
            raise PlaneError(str(error)) from None

    def set_server_states(self, states: Mapping[ServerKey, ServerState]) -> None:
        changes = [(key.pool, key.server, state) for key, state in states.items()]
        self._plane.set_server_states(states=encode(changes))

    def drain(self, *, to_successor: bool) -> None:
        self._plane.drain(to_successor=to_successor)

    def hand_over(self) -> None:
        self._plane.hand_over()

    def set_elsewhere(self, elsewhere: Elsewhere) -> None:
        self._plane.set_elsewhere(elsewhere=encode(elsewhere))

    def hurry(self) -> None:
        self._plane.hurry()

    def listening(self) -> list[socket.socket]:
        try:
            return [socket.socket(fileno=number) for number in self._plane.listening()]
        except _dataplane.PlaneError as error:
            raise PlaneError(str(error)) from None

    def stats(self) -> Stats:
        return _stats.decode(self._plane.stats())

    def servers(self, *, with_times: bool = False) -> list[ServerStats]:
        return _servers.decode(self._plane.servers(with_times=with_times))

    def conduct(self) -> list[PoolConduct]:
        return _conduct.decode(self._plane.conduct())

    def sessions(
        self, *, listener: str | None, server: ServerKey | None, client: str | None, limit: int
    ) -> list[Session]:
        found = self._plane.sessions(listener=listener, server=server, client=client, limit=limit)
        return _sessions.decode(found)

    def next_server(self, pool: str, client: str) -> ServerKey | None:
        found = self._plane.next_server(pool=pool, client=client)
        return ServerKey(*found) if found else None

    def admission(self, listener: str, client: str) -> Admission:
        return _admission.decode(self._plane.admission(listener=listener, client=client))

    def refused(self, *, listener: str | None, limit: int) -> list[RefusedSource]:
        return _refused.decode(self._plane.refused(listener=listener, limit=limit))

    def kill(self, session: str) -> bool:
        return self._plane.kill(id=session)

    def kill_from(self, prefix: str) -> int:
        return self._plane.kill_from(prefix=prefix)

    def end_of_server(self, key: ServerKey) -> int:
        return self._plane.end_of_server(pool=key.pool, server=key.server)

    def reopen_logs(self) -> None:
        self._plane.reopen_logs()

    @property
    def wake_fd(self) -> int:
        return self._plane.wake_fd

    def take_troubles(self) -> list[ServerTrouble]:
        return _troubles.decode(self._plane.take_troubles())

    def take_panics(self) -> list[PlanePanic]:
        panics, more = self._plane.take_panics()
        said = [*panics, f"{more} more panics"] if more else panics
        return [PlanePanic(words) for words in said]

    def stop(self) -> None:
        self._plane.stop()


def check(state: DesiredState) -> None:
    """Raises PlaneError where `apply` would refuse the specification. Binds nothing."""
    try:
        _dataplane.check(spec=encode(state))
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
