"""The Rust data plane, as Python sees it. Types in, types out; nothing calls back.

Every class is frozen, every argument is by keyword. Times are seconds (float),
sizes are bytes, addresses are text as `192.0.2.1:25` or `[2001:db8::1]:25`.
"""

from typing import Final, final

__all__ = [
    "BindError",
    "DataPlane",
    "Histogram",
    "KernelPathError",
    "KernelPathStats",
    "ListenerStats",
    "LogError",
    "LogStats",
    "PlaneError",
    "PoolStats",
    "RelayStats",
    "RoomStats",
    "ServerStats",
    "ServerTrouble",
    "Session",
    "SourcesStats",
    "SpecError",
    "Stats",
    "StickyStats",
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
class Histogram:
    bounds: Final[list[float]]
    """Upper bounds in seconds, without the last (infinite) one."""
    counts: Final[list[int]]
    """Observations per bucket, not summed up; one longer than `bounds`."""
    sum: Final[float]

@final
class ListenerStats:
    name: Final[str]
    addresses: Final[list[str]]
    """As bound: a configured port 0 shows as the port that was given."""
    accepted: Final[int]
    active: Final[int]
    received_bytes: Final[int]
    """From clients."""
    sent_bytes: Final[int]
    """To clients."""
    accept_pauses: Final[int]
    """Times that accepting paused because descriptors or memory ran out."""
    paused: Final[bool]
    """Whether new sessions are refused, since an operator said so."""
    ended: Final[dict[str, int]]
    """Sessions ended, by end reason (a closed list; every reason is present)."""
    would_refuse: Final[dict[str, int]]
    """Sessions that a dry run let in, by what is against them: `access source_sessions
    source_rate sessions`."""
    sources: Final[SourcesStats | None]
    """None where nothing is limited by source."""
    session_seconds: Final[Histogram]

@final
class SourcesStats:
    entries: Final[int]
    """Sources that are remembered."""
    places: Final[int]
    """The most that can be."""
    evicted: Final[int]
    untracked: Final[int]

@final
class ServerStats:
    pool: Final[str]
    name: Final[str]
    address: Final[str]
    weight: Final[int]
    state: Final[str]
    active: Final[int]
    sessions: Final[int]
    """Sessions that it took: it was connected to and, where it greets, greeted."""
    connect_failures: Final[dict[str, int]]
    """By cause: `refused timeout unreachable local other`.

    `local`: no descriptor, address or port was left here; the server isn't to blame.
    """
    greeting_failures: Final[dict[str, int]]
    """By cause: `4xx 5xx closed reset timeout nonsense`.

    On `smtps` listeners what a server did instead of answering the ClientHello.
    """
    received_bytes: Final[int]
    """From the server."""
    sent_bytes: Final[int]
    """To the server."""
    connect_seconds: Final[Histogram]
    greeting_seconds: Final[Histogram]
    ramp: Final[float]
    """The share of its weight that slow start allows now; 1.0 is all."""
    backup: Final[bool]

@final
class StickyStats:
    entries: Final[int]
    """Sources that are remembered."""
    found: Final[int]
    made: Final[int]
    broken: Final[int]
    evicted: Final[int]

@final
class PoolStats:
    name: Final[str]
    waiting: Final[int]
    """Sessions in its queue now."""
    queued: Final[int]
    """Sessions that ever were."""
    queue_ends: Final[dict[str, int]]
    """How their waiting ended: `served timeout client_gone full`."""
    queue_seconds: Final[Histogram]
    sticky: Final[StickyStats | None]
    """None where the pool isn't sticky."""

@final
class RelayStats:
    copied_bytes: Final[int]
    spliced_bytes: Final[int]
    pipes: Final[int]
    """Pipes that exist, lent and idle."""
    pipe_budget: Final[int]
    """The most pipes that are ever made, from `pipe-user-pages-soft`; 0 where the system
    refuses splice(2)."""
    pipe_fallbacks: Final[int]
    """Times that no usable pipe was to be had and bytes were copied instead."""

@final
class KernelPathStats:
    flows: Final[int]
    """Sessions on it now."""
    taken: Final[int]
    """Places that are taken: those of flows that ended linger for a minute."""
    max_flows: Final[int]
    handed_over: Final[int]
    """Sessions that took it, ever."""
    adopted: Final[int]
    """Sessions that an earlier process began."""
    taken_off: Final[int]
    """How often somebody took its program off an interface; it was attached again."""
    earlier: Final[int]
    """Sessions that began in a process of another version, and go on by themselves."""
    unpinned: Final[int]
    """How often somebody removed what outlives the process; it was pinned again."""
    moved: Final[int]
    """How often the peer of a flow was found behind another interface than before."""
    not_at: Final[dict[str, str]]
    """Interfaces that its program can't be attached to, and why."""
    ends_with_process: Final[str | None]
    """Why flows end with the process, if they do."""
    bytes: Final[int]
    refusals: Final[dict[str, int]]
    """Sessions that took the relay instead, by reason; every reason is there."""
    segments: Final[dict[str, int]]
    """By what became of them."""

@final
class LogStats:
    lines: Final[int]
    """Sessions written to the log."""
    dropped: Final[int]
    """Sessions that weren't: the queue was full or writing failed."""
    errors: Final[int]
    """Times that the log couldn't be written or opened."""
    last_error: Final[str]
    """The last of those in words; empty where there was none."""

@final
class RoomStats:
    """What takes descriptors and memory at one moment, and how much there may be."""

    sessions: Final[int]
    """Those that there is room for; flows aren't counted."""
    held: Final[int]
    """How many of those there are."""
    spare: Final[int]
    """The most of each of the next two."""
    lingering: Final[int]
    """Connections that are over and wait for the other end to read the last words."""
    overdue: Final[int]
    """Servers that are waited for although their time-out is over."""
    hurried: Final[int]
    """Connections that were closed at once, for want of room to linger."""

@final
class Stats:
    generation: Final[int]
    workers: Final[int]
    stuck_workers: Final[list[int]]
    """Numbers of the workers that don't move; their listeners are out of use meanwhile."""
    worker_lags: Final[list[float]]
    """By worker, seconds since it last showed that it moves; up to 0.5 is usual."""
    max_sessions: Final[int]
    room: Final[RoomStats]
    draining: Final[bool]
    active: Final[int]
    """Sessions now, those of removed listeners included."""
    listeners: Final[list[ListenerStats]]
    servers: Final[list[ServerStats]]
    pools: Final[list[PoolStats]]
    relay: Final[RelayStats]
    kernel_path: Final[KernelPathStats | None]
    """None where it isn't wanted, or can't be had."""
    no_kernel_path: Final[str | None]
    """Why it can't be had, where it is wanted."""
    log: Final[LogStats]

@final
class Session:
    """A live session at one moment."""

    id: Final[str]
    """16 hexadecimal digits; also the UNIQUE_ID of PROXY v2 and `id` in the log."""
    listener: Final[str]
    client: Final[str]
    pool: Final[str]
    server: Final[str]
    """Empty while none has taken it."""
    age_seconds: Final[float]
    silent_seconds: Final[float]
    """Since payload last went either way."""
    spoke_last: Final[str]
    """`client` or `server`."""
    received_bytes: Final[int]
    """From the client."""
    sent_bytes: Final[int]
    """To the client."""
    tls: Final[bool]
    """Whether it was seen to speak TLS, from the first or by STARTTLS."""
    path: Final[str]
    """`copy`, `splice` or `kernel`, as in the log."""
    source: Final[str]
    """Our end of the connection with the server; empty but for `kernel`."""

@final
class ServerTrouble:
    """A server failed a session that checks haven't noticed yet."""

    pool: Final[str]
    server: Final[str]
    cause: Final[str]
    """`connect` or `greeting` and why, as `greeting 4xx`."""

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
    def hurry(self) -> None:
        """Of a process that drains: sessions leave at the next place for it, without a spread."""
    def listening(self) -> list[int]:
        """New descriptors of all listening sockets, which are the caller's to close."""
    def stats(self) -> Stats: ...
    def sessions(
        self, *, listener: str | None, server: tuple[str, str] | None, limit: int
    ) -> list[Session]:
        """Live sessions, the oldest first; `server` is pool and name. None is any."""
    def next_server(self, *, pool: str, client: str) -> str | None:
        """The server that a client's next session would get in a pool now; None where there is
        none. `client` is an address without a port.
        """
    def admission(self, *, listener: str, client: str) -> str | None:
        """The end reason by which a client would be refused now. None: it would be let in, also
        where only dry runs are against it.
        """
    def kill(self, *, id: str) -> bool:
        """End a session; False where there is none with that id."""
    def kill_from(self, *, prefix: str) -> int:
        """End every session of a prefix; how many there were."""
    def reopen_logs(self) -> None:
        """Open the session log's file anew, soon: it was moved away."""
    wake_fd: Final[int]
    """Readable while there are troubles to take; for `loop.add_reader`."""
    def take_troubles(self) -> list[ServerTrouble]:
        """At most one of a server since the last call. Clears `wake_fd`."""
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
