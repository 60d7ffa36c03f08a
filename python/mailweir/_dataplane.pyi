"""The Rust data plane, as Python sees it. JSON in, JSON out; nothing calls back.

Every argument is by keyword. `mailweir.spec` and `mailweir.stats` have the types that the JSON is
of. Times are seconds, sizes are bytes, addresses are text as `192.0.2.1:25` or `[2001:db8::1]:25`.
"""

from typing import Final, final

__all__ = [
    "BindError",
    "DataPlane",
    "KernelPathError",
    "LogError",
    "PlaneError",
    "SpecError",
    "check",
    "kernel_path_flush",
    "kernel_path_is_built",
    "kernel_path_left",
]

class PlaneError(Exception):
    """Base of what the data plane refuses."""

class SpecError(PlaneError):
    """The specification can't be read or contradicts itself; the message names the part."""

class BindError(PlaneError):
    """A listening address can't be had; the message names listener, address and cause."""

class KernelPathError(PlaneError):
    """A listener insists on the kernel path, and there is none; the message says why."""

class LogError(PlaneError):
    """The session log can't be opened; the message names it and the cause."""

@final
class DataPlane:
    def __new__(cls, *, workers: int, kept: list[int]) -> DataPlane:
        """Start the worker threads. Nothing listens before the first `apply`.

        `kept` are descriptors of listening sockets to go on with; they stay the caller's.
        """
    def apply(self, *, spec: bytes) -> int:
        """Make `spec` the running one, at once and whole; the new generation number. It is a
        `mailweir.spec.DesiredState` as JSON.

        Raises SpecError, BindError or LogError, and then nothing has changed.
        """
    def set_server_states(self, *, states: bytes) -> None:
        """A JSON list of `[pool, server, state]`. Servers that aren't in the running snapshot are
        passed over. Raises SpecError, and then nothing has changed.
        """
    def drain(self, *, to_successor: bool) -> None:
        """Stop accepting; sessions are cut as the specification's `drain` has it. Who is in the
        accept queues is served and nobody listens afterwards, but with `to_successor`: then they
        are left to it.
        """
    def hand_over(self) -> None:
        """Leave listening sockets and flows to the next process, which lives already and may begin
        with the flows when this returns. The other sessions go on to their end; nothing is applied
        any more.
        """
    def set_elsewhere(self, *, elsewhere: bytes) -> None:
        """So many sessions the process before this one has still, which hold places here: a
        `mailweir.spec.Elsewhere` as JSON. Raises SpecError.
        """
    def hurry(self) -> None:
        """Of a process that drains: sessions leave at the next place for it, without a spread."""
    def listening(self) -> list[int]:
        """New descriptors of all listening sockets, which are the caller's to close."""
    def stats(self) -> bytes:
        """Counters and gauges of this moment, but those of servers: a `Stats`."""
    def conduct(self) -> bytes:
        """What servers have done to sessions, a list of `PoolConduct`."""
    def servers(self, *, with_times: bool) -> bytes:
        """Servers at this moment: a list of `ServerStats`."""
    def sessions(
        self,
        *,
        listener: str | None,
        server: tuple[str, str] | None,
        client: str | None,
        limit: int,
    ) -> bytes:
        """Live sessions, the oldest first: a list of `Session`; `server` is pool and name, `client`
        a prefix. None is any. Raises SpecError where that is no prefix.
        """
    def next_server(self, *, pool: str, client: str) -> tuple[str, str] | None:
        """The server that a client's next session would get in a pool now, or in one that it
        overflows into, by its pool and name; None where there is none. `client` is an address
        without a port.
        """
    def admission(self, *, listener: str, client: str) -> bytes:
        """What would become of a client at a listener now: an `Admission` as JSON."""
    def refused(self, *, listener: str | None, limit: int) -> bytes:
        """The sources that a listener, or any, refused most, those first: a list of
        `RefusedSource`.
        """
    def kill(self, *, id: str) -> bool:
        """End a session; False where there is none with that id."""
    def kill_from(self, *, prefix: str) -> int:
        """End every session of a prefix; how many there were."""
    def end_of_server(self, *, pool: str, server: str) -> int:
        """End every session of a server, which is down; how many there were."""
    def reopen_logs(self) -> None:
        """Open the session log's file anew, soon: it was moved away."""
    wake_fd: Final[int]
    """Readable while there are troubles or panics to take; for `loop.add_reader`."""
    def take_troubles(self) -> bytes:
        """At most one of a server since the last call: a list of `ServerTrouble`. Clears
        `wake_fd`.
        """
    def take_panics(self) -> tuple[list[str], int]:
        """Panics of any thread since the last call (place, thread and message), and how many more
        there were. To be taken after the troubles. None is written to standard error, where whoever
        doesn't read that would stop a worker.
        """
    def stop(self) -> None:
        """End every session and join the workers. A second call does nothing."""

def check(*, spec: bytes) -> None:
    """Raises SpecError as `apply` would; binds nothing."""

def kernel_path_is_built() -> bool:
    """Whether the kernel path's program is in this build: clang was there."""

def kernel_path_left(*, instance: str) -> tuple[int, int, int] | None:
    """Sessions that an instance has in the kernel, whether its process runs or not, places beside
    them, and sessions of other versions; None where there is nothing of it. Raises KernelPathError.
    """

def kernel_path_flush(*, instance: str) -> None:
    """Removes everything that an instance has in the kernel. Raises KernelPathError."""
