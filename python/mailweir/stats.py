"""What the data plane tells of itself, as plain frozen values: counters, gauges, live sessions.

The twin of rust/core/src/stats.rs and of what that is made of: the same fields by the same names,
since it comes as JSON and is read as it is. Times are seconds, sizes are bytes, addresses are text
as `192.0.2.1:25` or `[2001:db8::1]:25`.
"""

from msgspec import Struct


class Histogram(Struct, frozen=True, gc=False):
    """Durations by size, in seconds."""

    counts: tuple[int, ...]
    """Observations per bucket, not summed up; one more than there are bounds."""
    sum: float


class SourcesStats(Struct, frozen=True, gc=False):
    """What a listener remembers of sources."""

    entries: int
    """Sources that are remembered."""
    places: int
    """The most that can be."""
    evicted: int
    untracked: int


class ListenerStats(Struct, frozen=True, gc=False):
    """A listener at one moment."""

    name: str
    addresses: tuple[str, ...]
    """As bound: a configured port 0 shows as the port that was given."""
    accepted: int
    active: int
    places: int
    """That are taken now: those of the process before this one count, those that were left to the
    next process don't."""
    received_bytes: int
    """From clients."""
    sent_bytes: int
    """To clients."""
    accept_pauses: int
    """Times that accepting paused because descriptors or memory ran out."""
    paused: bool
    """Whether new sessions are refused, since an operator said so."""
    ended: dict[str, int]
    """Sessions ended, by end reason (a closed list; every reason is present)."""
    would_refuse: dict[str, int]
    """Sessions that a dry run let in, by what is against them: `access source_sessions
    source_rate sessions`."""
    sources: SourcesStats | None
    """None where nothing is limited by source."""
    session_time: Histogram


class ServerTimes(Struct, frozen=True, gc=False):
    """How long a server took to do what it does for each session."""

    connect: Histogram
    greeting: Histogram
    """After that."""


class ServerStats(Struct, frozen=True, gc=False):
    """A server at one moment."""

    pool: str
    name: str
    address: str
    weight: int
    state: str
    active: int
    sessions: int
    """Sessions that it took: it was connected to and, where it greets, greeted."""
    connect_failures: dict[str, int]
    """By cause: `refused timeout unreachable local other`.

    `local`: no descriptor, address or port was left here; the server isn't to blame.
    """
    greeting_failures: dict[str, int]
    """By cause: `4xx 5xx closed reset timeout nonsense`.

    On `smtps` listeners what a server did instead of answering the ClientHello.
    """
    spoiled: dict[str, int]
    """Sessions that it didn't take and another server did, by what it did instead: `connect 4xx
    5xx closed reset timeout nonsense`; and that it left in the middle of a message: `cut_in_data`.
    """
    ended: dict[str, int]
    """Sessions that it took and that ended, by end reason; those reasons alone that there were."""
    session_time: float
    """How long those lasted together, each from its client's connect."""
    received_bytes: int
    """From the server."""
    sent_bytes: int
    """To the server."""
    times: ServerTimes | None
    """None where nobody asked for it."""
    ramp: float
    """The share of its weight that slow start allows now; 1.0 is all."""
    backup: bool


class ServerConduct(Struct, frozen=True, gc=False):
    """What a server has done to sessions by one moment."""

    name: str
    taken: int
    """Sessions that it took."""
    refused: int
    """Those that it didn't take, and another server did."""
    cut: int
    """Those that it left in the middle of a message."""
    in_vain: int
    """Those that it didn't take, and nor did another; but for those that it said 5yz to."""
    in_a_row: int
    """How many it has refused or cut in a row by now."""


class PoolConduct(Struct, frozen=True, gc=False):
    """What the servers of a pool have done to sessions by one moment."""

    name: str
    bad: int
    """Of all servers `refused`, `cut` and `in_vain` together."""
    servers: tuple[ServerConduct, ...]


class StickyStats(Struct, frozen=True, gc=False):
    """What a pool remembers of sources."""

    entries: int
    """Sources that are remembered."""
    found: int
    made: int
    broken: int
    evicted: int


class OverflowStats(Struct, frozen=True, gc=False):
    """What becomes of the sessions of a pool that may go to others."""

    course: str
    """`home`; `elsewhere`: no server is up, or not for long enough; `coming_back`."""
    share: float
    """Of its sessions, which it has itself as long as it has room; from 0 to 1."""
    begun: int
    """How often they began to go elsewhere because no server was up."""
    sessions: dict[str, int]
    """Those that other pools took, ever, by the pool."""


class PoolStats(Struct, frozen=True, gc=False):
    """A pool at one moment."""

    name: str
    waiting: int
    """Sessions in its queue now."""
    queued: int
    """Sessions that ever were."""
    queue_ends: dict[str, int]
    """How their waiting ended: `served timeout client_gone full`."""
    queue_time: Histogram
    sticky: StickyStats | None
    """None where the pool isn't sticky."""
    overflow: OverflowStats | None
    """None where it has none."""


class RelayStats(Struct, frozen=True, gc=False):
    """The user-space path at one moment."""

    copied_bytes: int
    spliced_bytes: int
    pipes: int
    """Pipes that exist, lent and idle."""
    pipe_budget: int
    """The most pipes that are ever made, from `pipe-user-pages-soft`; 0 where the system
    refuses splice(2)."""
    pipe_fallbacks: int
    """Times that no usable pipe was to be had and bytes were copied instead."""


class KernelPathStats(Struct, frozen=True, gc=False):
    """The kernel path at one moment."""

    flows: int
    """Sessions on it now."""
    places_taken: int
    """With sessions that are about to be flows, and flows whose record isn't in the log."""
    lingering: int
    """Keys of flows that are over: two for each, for a minute."""
    restarts: int
    """How often the thread that has the flows began again after a panic."""
    tables_bytes: int
    """Of the kernel's memory, whatever is in them."""
    max_flows: int
    wanted_flows: int
    """As configured: there are fewer as long as tables of an earlier process are gone on with."""
    handed_over: int
    """Sessions that took it, ever."""
    adopted: int
    """Sessions that an earlier process began."""
    keepalives: int
    """Segments that asked silent peers whether they are there."""
    unanswered: int
    """Sessions that ended since a peer answered none of these."""
    given_up: int
    """Records that waited for the log and gave up their places: a kill before they are in it loses
    them."""
    taken_off: int
    """How often somebody took its program off an interface; it was attached again."""
    earlier: int
    """Sessions that began in a process of another version, and go on by themselves."""
    unpinned: int
    """How often somebody removed what outlives the process; it was pinned again."""
    moved: int
    """How often the peer of a flow was found behind another interface than before."""
    not_at: dict[str, str]
    """Interfaces that its program can't be attached to, and why."""
    ends_with_process: str | None
    """Why flows end with the process, if they do."""
    bytes: int
    refusals: dict[str, int]
    """Sessions that took the relay instead, by reason; every reason is there."""
    segments: dict[str, int]
    """By what became of them."""


class NoKernelPath(Struct, frozen=True, gc=False):
    """Why there is no kernel path where one is wanted."""

    reason: str
    """`not_built refused self_test pins system`: not in this build; the kernel refuses it, or does
    with it what it shouldn't; it can't be pinned; something else of the system is lacking."""
    told: str
    """The same for people."""


class LogStats(Struct, frozen=True, gc=False):
    """The session log at one moment."""

    lines: int
    """Sessions written to the log."""
    dropped: int
    """Sessions that weren't: the queue was full or writing failed."""
    errors: int
    """Times that the log couldn't be written or opened."""
    last_error: str
    """The last of those in words; empty where there was none."""


class RoomStats(Struct, frozen=True, gc=False):
    """What takes descriptors and memory at one moment, and how much there may be."""

    sessions: int
    """Those that there is room for; flows aren't counted."""
    held: int
    """How many of those there are."""
    spare: int
    """The most of each of the next two."""
    lingering: int
    """Connections that are over and wait for the other end to read the last words."""
    overdue: int
    """Servers that are waited for although their time-out is over."""
    hurried: int
    """Connections that were closed at once, for want of room to linger."""


class BoundsStats(Struct, frozen=True, gc=False):
    """Upper bounds of histograms in seconds, each without its last (infinite) one."""

    session: tuple[float, ...]
    connect: tuple[float, ...]
    greeting: tuple[float, ...]
    queue: tuple[float, ...]


class WorkerStats(Struct, frozen=True, gc=False):
    """A worker thread at one moment."""

    lag: float
    """Since it last showed that it moves; up to 0.5 is usual."""
    stuck: bool
    """Whether it doesn't; its listeners are out of use meanwhile."""


class Stats(Struct, frozen=True, gc=False):
    """A data plane at one moment, but its servers: there may be thousands."""

    generation: int
    workers: tuple[WorkerStats, ...]
    max_sessions: int
    room: RoomStats
    draining: bool
    active: int
    """Sessions now, those of removed listeners included."""
    bounds: BoundsStats
    """Of all histograms below, and of servers' ones."""
    listeners: tuple[ListenerStats, ...]
    pools: tuple[PoolStats, ...]
    relay: RelayStats
    kernel_path: KernelPathStats | None
    """None where it isn't wanted, or can't be had."""
    no_kernel_path: NoKernelPath | None
    """Why it can't be had, where it is wanted."""
    log: LogStats

    def stuck_workers(self) -> list[int]:
        """Numbers of those that don't move."""
        return [number for number, worker in enumerate(self.workers) if worker.stuck]


class Session(Struct, frozen=True, gc=False):
    """A live session at one moment."""

    id: str
    """16 hexadecimal digits; also the UNIQUE_ID of PROXY v2 and `id` in the log."""
    listener: str
    client: str
    pool: str
    server: str | None
    """None while none has taken it."""
    age: float
    silent: float
    """Since payload last went either way."""
    spoke_last: str | None
    """`client` or `server`; None while neither has."""
    received_bytes: int
    """From the client."""
    sent_bytes: int
    """To the client."""
    tls: bool
    """Whether it was seen to speak TLS, from the first or by STARTTLS."""
    path: str
    """`copy`, `splice` or `kernel`, as in the log."""
    source: str | None
    """Our end of the connection with the server; None but for `kernel`."""


class RefusedSource(Struct, frozen=True, gc=False):
    """Whom a listener refused lately, at one moment."""

    listener: str
    source: str
    """A prefix: an address, or what limits count as one source."""
    sessions: int
    """Refused since it was last not refused for a day."""
    reasons: dict[str, int]
    """The same by end reason, without those that are zero."""
    last_reason: str
    age: float
    """Since it was refused last."""


class Admission(Struct, frozen=True, gc=False):
    """What would become of a client at one moment.

    `refused` is the end reason by which it would be refused, `would_refuse` what would do so as
    well, were it more than tried out (dry_run).
    """

    refused: str | None
    would_refuse: list[str]


class ServerTrouble(Struct, frozen=True, gc=False):
    """A server failed a session that checks haven't noticed yet."""

    pool: str
    server: str
    step: str
    """`connect` or `greeting`."""
    cause: str
    """Why, as `4xx`."""
