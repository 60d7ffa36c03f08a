"""The data plane's figures as metrics: a row for each. Used by `metrics`.

A new figure of `stats` is shown by one row, in the group of what it is a figure of.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mailweir.admin.exposition import (
    Counter,
    CounterBy,
    Gauge,
    GaugeBy,
    Group,
    Histogram,
    Summary,
)
from mailweir.spec import ServerState
from mailweir.stats import (
    BoundsStats,
    KernelPathStats,
    ListenerStats,
    NoKernelPath,
    OverflowStats,
    PoolStats,
    ServerStats,
    ServerTimes,
    SourcesStats,
    Stats,
    StickyStats,
    WorkerStats,
)


def _kernel_path_is_up(stats: Stats) -> bool | None:
    """None where the configuration doesn't want it."""
    return bool(stats.kernel_path) if stats.kernel_path or stats.no_kernel_path else None


_PROCESS = Group[Stats, Stats](
    (),
    lambda stats: [((), stats)],
    Gauge("mailweir_sessions_active", "Sessions now.", lambda stats: stats.active),
    Gauge("mailweir_draining", "1 while the process drains.", lambda stats: stats.draining),
    Gauge("mailweir_workers", "Data-plane threads.", lambda stats: len(stats.workers)),
    Gauge(
        "mailweir_max_sessions",
        "Sessions that there may be at a time.",
        lambda stats: stats.max_sessions,
    ),
    Gauge(
        "mailweir_workers_stuck",
        "Workers that don't move; their listeners are out of use.",
        lambda stats: len(stats.stuck_workers()),
    ),
    Gauge(
        "mailweir_session_room",
        "Sessions outside the kernel that there is room for.",
        lambda stats: stats.room.sessions,
    ),
    Gauge(
        "mailweir_session_room_taken",
        "Sessions outside the kernel now.",
        lambda stats: stats.room.held,
    ),
    GaugeBy(
        "mailweir_spare_connections",
        "Connections beside those of sessions, by what they are: lingering, or overdue servers.",
        "kind",
        lambda stats: {"lingering": stats.room.lingering, "overdue": stats.room.overdue},
    ),
    Gauge(
        "mailweir_spare_room",
        "The most connections of each kind beside those of sessions.",
        lambda stats: stats.room.spare,
    ),
    Counter(
        "mailweir_hurried_farewells",
        "Connections closed at once, for want of room to linger.",
        lambda stats: stats.room.hurried,
    ),
    Counter(
        "mailweir_relay_copied_bytes",
        "Bytes relayed by copying.",
        lambda stats: stats.relay.copied_bytes,
    ),
    Counter(
        "mailweir_relay_spliced_bytes",
        "Bytes relayed by splice(2).",
        lambda stats: stats.relay.spliced_bytes,
    ),
    Gauge(
        "mailweir_relay_pipes", "Pipes that exist, lent and idle.", lambda stats: stats.relay.pipes
    ),
    Counter(
        "mailweir_relay_pipe_fallbacks",
        "Times that no pipe was to be had and bytes were copied.",
        lambda stats: stats.relay.pipe_fallbacks,
    ),
    Gauge(
        "mailweir_relay_pipe_budget",
        "Pipes that there may be; 0 where the system refuses splice(2).",
        lambda stats: stats.relay.pipe_budget,
    ),
    Gauge(
        "mailweir_kernel_path_up",
        "1 where it is there, 0 where it is wanted and isn't.",
        _kernel_path_is_up,
    ),
    Counter(
        "mailweir_session_log_lines", "Sessions written to the log.", lambda stats: stats.log.lines
    ),
    Counter(
        "mailweir_session_log_dropped", "Sessions missing from it.", lambda stats: stats.log.dropped
    ),
    Counter(
        "mailweir_session_log_errors",
        "Times it couldn't be written.",
        lambda stats: stats.log.errors,
    ),
)
_WORKERS = Group[Stats, WorkerStats](
    ("worker",),
    lambda stats: (((str(n),), one) for n, one in enumerate(stats.workers)),
    Gauge(
        "mailweir_worker_lag_seconds", "Since a worker showed that it moves.", lambda one: one.lag
    ),
)
_LISTENERS = Group[Stats, ListenerStats](
    ("listener",),
    lambda stats: (((one.name,), one) for one in stats.listeners),
    Counter("mailweir_listener_connections", "Connections accepted.", lambda one: one.accepted),
    Gauge("mailweir_listener_connections_active", "Connections now.", lambda one: one.active),
    CounterBy(
        "mailweir_listener_connections_ended",
        "Connections ended, by reason.",
        "reason",
        lambda one: one.ended,
    ),
    Counter(
        "mailweir_listener_received_bytes",
        "Bytes received from clients.",
        lambda one: one.received_bytes,
    ),
    Counter("mailweir_listener_sent_bytes", "Bytes sent to clients.", lambda one: one.sent_bytes),
    Counter(
        "mailweir_listener_accept_pauses",
        "Times that accepting paused for want of descriptors or memory.",
        lambda one: one.accept_pauses,
    ),
    Gauge(
        "mailweir_listener_paused",
        "1 where an operator has new sessions refused.",
        lambda one: one.paused,
    ),
    Histogram(
        "mailweir_listener_session_seconds",
        "How long sessions lasted.",
        lambda stats: stats.bounds.session,
        lambda one: one.session_time,
    ),
    CounterBy(
        "mailweir_listener_would_refuse",
        "Sessions that a limit was against, were it not for dry_run.",
        "limit",
        lambda one: one.would_refuse,
    ),
)
_SOURCES = Group[Stats, SourcesStats](
    ("listener",),
    lambda stats: (((one.name,), one.sources) for one in stats.listeners if one.sources),
    Gauge(
        "mailweir_listener_sources",
        "Sources that are remembered for limits.",
        lambda one: one.entries,
    ),
    Gauge(
        "mailweir_listener_source_places", "Sources that can be remembered.", lambda one: one.places
    ),
    Counter(
        "mailweir_listener_sources_evicted",
        "Sources forgotten early for want of places.",
        lambda one: one.evicted,
    ),
    Counter(
        "mailweir_listener_sources_untracked",
        "Sessions not counted to their source for want of places.",
        lambda one: one.untracked,
    ),
)
_POOLS = Group[Stats, PoolStats](
    ("pool",),
    lambda stats: (((one.name,), one) for one in stats.pools),
    Gauge(
        "mailweir_pool_waiting",
        "Sessions that wait for a place at a server.",
        lambda one: one.waiting,
    ),
    Counter(
        "mailweir_pool_queued", "Sessions that had to wait for a place.", lambda one: one.queued
    ),
    CounterBy(
        "mailweir_pool_queue_ends", "Waits that ended, by how.", "end", lambda one: one.queue_ends
    ),
    Histogram(
        "mailweir_pool_queue_seconds",
        "How long they waited.",
        lambda stats: stats.bounds.queue,
        lambda one: one.queue_time,
    ),
)
_OVERFLOW = Group[Stats, OverflowStats](
    ("pool",),
    lambda stats: (((one.name,), one.overflow) for one in stats.pools if one.overflow),
    Gauge(
        "mailweir_pool_overflowing",
        "1 while its sessions go to other pools since no server of it is up, or come back.",
        lambda one: one.course != "home",
    ),
    Counter(
        "mailweir_pool_overflows",
        "Times that they began to, because no server was up.",
        lambda one: one.begun,
    ),
    CounterBy(
        "mailweir_pool_overflowed_sessions",
        "Sessions that another pool took, by that.",
        "to",
        lambda one: one.sessions,
    ),
)
_STICKY = Group[Stats, StickyStats](
    ("pool",),
    lambda stats: (((one.name,), one.sticky) for one in stats.pools if one.sticky),
    Gauge(
        "mailweir_pool_sticky_entries",
        "Sources whose server is remembered.",
        lambda one: one.entries,
    ),
    Counter(
        "mailweir_pool_sticky_found",
        "Sessions that went to the server of their source.",
        lambda one: one.found,
    ),
    Counter(
        "mailweir_pool_sticky_made",
        "Sources that were given a server to remember.",
        lambda one: one.made,
    ),
    Counter(
        "mailweir_pool_sticky_broken",
        "Sessions whose source's server couldn't be used.",
        lambda one: one.broken,
    ),
    Counter(
        "mailweir_pool_sticky_evicted",
        "Sources forgotten early for want of places.",
        lambda one: one.evicted,
    ),
)
_NO_KERNEL_PATH = Group[Stats, NoKernelPath](
    ("reason",),
    lambda stats: [((why.reason,), why)] if (why := stats.no_kernel_path) else [],
    Gauge(
        "mailweir_kernel_path_missing",
        "1 where it is wanted and isn't there, by reason: not_built, refused, self_test, pins or"
        " system.",
        lambda _: 1,
    ),
)
_KERNEL_PATH = Group[Stats, KernelPathStats](
    (),
    lambda stats: [((), stats.kernel_path)] if stats.kernel_path else [],
    Gauge(
        "mailweir_kernel_path_outlives_process",
        "1 where its sessions go on without the process.",
        lambda path: not path.ends_with_process,
    ),
    Gauge("mailweir_kernel_path_flows", "Sessions in the kernel now.", lambda path: path.flows),
    Gauge(
        "mailweir_kernel_path_places_taken",
        "Places of flows, and of sessions that are about to be flows.",
        lambda path: path.places_taken,
    ),
    Gauge(
        "mailweir_kernel_path_lingering",
        "Keys of flows that ended within a minute, two for each.",
        lambda path: path.lingering,
    ),
    Counter(
        "mailweir_kernel_path_restarts",
        "Panics of the thread that has the flows; it began again with the same flows.",
        lambda path: path.restarts,
    ),
    Gauge(
        "mailweir_kernel_path_tables_bytes",
        "Kernel memory of its tables.",
        lambda path: path.tables_bytes,
    ),
    Gauge("mailweir_kernel_path_max_flows", "Places that there are.", lambda path: path.max_flows),
    Counter(
        "mailweir_kernel_path_hand_overs",
        "Sessions handed over to the kernel.",
        lambda path: path.handed_over,
    ),
    Counter(
        "mailweir_kernel_path_adopted",
        "Sessions that an earlier process began and this one goes on with.",
        lambda path: path.adopted,
    ),
    Counter(
        "mailweir_kernel_path_keepalives",
        "Segments that asked silent peers of sessions whether they are there.",
        lambda path: path.keepalives,
    ),
    Counter(
        "mailweir_kernel_path_unanswered",
        "Sessions that ended since a peer answered no keepalive.",
        lambda path: path.unanswered,
    ),
    Counter(
        "mailweir_kernel_path_given_up",
        "Records that waited for the session log and gave up their places to new sessions; a kill"
        " before they are in the log loses them.",
        lambda path: path.given_up,
    ),
    Counter(
        "mailweir_kernel_path_bytes",
        "Bytes that the kernel carried by itself.",
        lambda path: path.bytes,
    ),
    CounterBy(
        "mailweir_kernel_path_refusals",
        "Sessions that took the relay, by reason.",
        "reason",
        lambda path: path.refusals,
    ),
    CounterBy(
        "mailweir_kernel_path_segments",
        "Segments of flows, by what became of them.",
        "what",
        lambda path: path.segments,
    ),
    Gauge(
        "mailweir_kernel_path_earlier",
        "Sessions of a process of another version, which go on by themselves.",
        lambda path: path.earlier,
    ),
    Counter(
        "mailweir_kernel_path_taken_off",
        "Times that somebody took its program off an interface; it was attached again.",
        lambda path: path.taken_off,
    ),
    Counter(
        "mailweir_kernel_path_unpinned",
        "Times that somebody removed its pins; they were made again.",
        lambda path: path.unpinned,
    ),
    Counter(
        "mailweir_kernel_path_moved",
        "Times that a peer was found behind another interface than before.",
        lambda path: path.moved,
    ),
    Gauge(
        "mailweir_kernel_path_interfaces_refused",
        "Interfaces that its program can't be attached to.",
        lambda path: len(path.not_at),
    ),
)
FIGURES: tuple[Group[Stats, Any], ...] = (
    _PROCESS,
    _WORKERS,
    _LISTENERS,
    _SOURCES,
    _POOLS,
    _OVERFLOW,
    _STICKY,
    _KERNEL_PATH,
    _NO_KERNEL_PATH,
)


@dataclass(frozen=True)
class Servers:
    """All servers at one moment, with their times."""

    bounds: BoundsStats
    all: Sequence[ServerStats]


# By the state that a server is in: that and those that it isn't in.
_STATES = {str(now): {str(one): one is now for one in ServerState} for now in ServerState}


def _tallies(servers: Servers) -> Iterable[tuple[tuple[str], Tally[str]]]:
    """How many servers of each pool are in each state."""
    tallies: dict[str, Tally[str]] = {}
    for server in servers.all:
        tallies.setdefault(server.pool, Tally())[server.state] += 1
    return (((pool,), tally) for pool, tally in tallies.items())


_SERVERS = Group[Servers, ServerStats](
    ("pool", "server"),
    lambda servers: (((one.pool, one.name), one) for one in servers.all),
    Counter("mailweir_server_sessions", "Sessions that it took.", lambda one: one.sessions),
    Gauge("mailweir_server_sessions_active", "Sessions on it now.", lambda one: one.active),
    Gauge("mailweir_server_weight", "Its weight, 0 to 1000.", lambda one: one.weight),
    Gauge(
        "mailweir_server_ramp",
        "The share of its weight that slow start allows now.",
        lambda one: one.ramp,
    ),
    CounterBy(
        "mailweir_server_connect_failures",
        "Failed connects, by cause.",
        "reason",
        lambda one: one.connect_failures,
    ),
    CounterBy(
        "mailweir_server_greeting_failures",
        "Greetings that sent a session to another server, by cause.",
        "reason",
        lambda one: one.greeting_failures,
    ),
    CounterBy(
        "mailweir_server_spoiled_sessions",
        "Sessions that it didn't take and another server did, or that it left in the middle of a"
        " message.",
        "reason",
        lambda one: one.spoiled,
    ),
    CounterBy(
        "mailweir_server_sessions_ended",
        "Sessions that it took and that ended, by reason; of a reason that there was none of it has"
        " no sample.",
        "reason",
        lambda one: one.ended,
    ),
    Summary(
        "mailweir_server_session_seconds",
        "How long sessions that it took lasted, from their clients' connect.",
        lambda one: (sum(one.ended.values()), one.session_time),
    ),
    Counter(
        "mailweir_server_received_bytes", "Bytes received from it.", lambda one: one.received_bytes
    ),
    Counter("mailweir_server_sent_bytes", "Bytes sent to it.", lambda one: one.sent_bytes),
    GaugeBy(
        "mailweir_server_state",
        "1 for the state that a server is in, 0 for the others.",
        "state",
        lambda one: _STATES[one.state],
    ),
)
_SERVER_TIMES = Group[Servers, ServerTimes](
    ("pool", "server"),
    lambda servers: (((one.pool, one.name), one.times) for one in servers.all if one.times),
    Histogram(
        "mailweir_server_connect_seconds",
        "How long it took to accept.",
        lambda servers: servers.bounds.connect,
        lambda times: times.connect,
    ),
    Histogram(
        "mailweir_server_greeting_seconds",
        "How long it took to greet after that.",
        lambda servers: servers.bounds.greeting,
        lambda times: times.greeting,
    ),
)
_STATES_OF_SERVERS = Group[Servers, Tally[str]](
    ("pool",),
    _tallies,
    GaugeBy(
        "mailweir_pool_servers",
        "Servers of a pool, by state.",
        "state",
        lambda tally: {str(one): tally[one] for one in ServerState},
    ),
    Gauge(
        "mailweir_pool_panic",
        "1 while so few of its servers are up that those that are down are tried too.",
        lambda tally: tally[ServerState.PANIC] > 0,
    ),
)
SERVERS: tuple[Group[Servers, Any], ...] = (_SERVERS, _SERVER_TIMES, _STATES_OF_SERVERS)
