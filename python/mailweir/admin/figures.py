"""The data plane's figures as metrics, read anew at each scrape. Part of `metrics`."""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Protocol

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from mailweir.admin import exposition
from mailweir.spec import ServerState
from mailweir.stats import (
    BoundsStats,
    Histogram,
    KernelPathStats,
    ListenerStats,
    LogStats,
    PoolStats,
    RelayStats,
    ServerStats,
    Stats,
)


class Source(Protocol):
    """What is read: a data plane."""

    def stats(self) -> Stats: ...

    def servers(self, *, with_times: bool) -> Sequence[ServerStats]: ...


class PlaneCollector(Collector):
    """One reading of the data plane per scrape."""

    def __init__(self, plane: Source) -> None:
        self._plane = plane

    def describe(self) -> Iterable[Metric]:
        """Names only: registering mustn't need a data plane that runs."""
        return _metrics((), ())

    def collect(self) -> Iterable[Metric]:
        return _metrics((self._plane.stats(),), self._plane.servers(with_times=True))


def _metrics(stats: Sequence[Stats], servers: Sequence[ServerStats]) -> Iterator[Metric]:
    """All that there is to say of readings; of none, the names."""
    listeners = [listener for one in stats for listener in one.listeners]
    pools = [pool for one in stats for pool in one.pools]
    paths = [one.kernel_path for one in stats if one.kernel_path]
    bounds = stats[0].bounds if stats else BoundsStats((), (), (), ())
    yield from _process(stats)
    yield from _listeners(listeners, bounds)
    yield from _limits(listeners)
    yield from _servers(servers, bounds)
    yield from _server_states(servers)
    yield from _queues(pools, bounds)
    yield from _sticky(pools)
    yield from _relay([one.relay for one in stats])
    yield from _kernel_path_lacks(stats)
    yield from _kernel_path(paths)
    yield from _kernel_path_ways(paths)
    yield from _log([one.log for one in stats])


def _process(stats: Sequence[Stats]) -> Iterator[Metric]:
    active = exposition.Gauge("mailweir_sessions_active", "Sessions now.")
    draining = exposition.Gauge("mailweir_draining", "1 while the process drains.")
    workers = exposition.Gauge("mailweir_workers", "Data-plane threads.")
    most = exposition.Gauge("mailweir_max_sessions", "Sessions that there may be at a time.")
    room = exposition.Gauge(
        "mailweir_session_room", "Sessions outside the kernel that there is room for."
    )
    spare = exposition.Gauge(
        "mailweir_spare_connections",
        "Connections beside those of sessions, by what they are: lingering, or overdue servers.",
        labels=["kind"],
    )
    most_spare = exposition.Gauge(
        "mailweir_spare_room", "The most connections of each kind beside those of sessions."
    )
    hurried = exposition.Counter(
        "mailweir_hurried_farewells", "Connections closed at once, for want of room to linger."
    )
    stuck = exposition.Gauge(
        "mailweir_workers_stuck", "Workers that don't move; their listeners are out of use."
    )
    lag = exposition.Gauge(
        "mailweir_worker_lag_seconds", "Since a worker showed that it moves.", labels=["worker"]
    )
    for one in stats:
        active.add([], one.active)
        draining.add([], one.draining)
        workers.add([], len(one.workers))
        most.add([], one.max_sessions)
        room.add([], one.room.sessions)
        spare.add(["lingering"], one.room.lingering)
        spare.add(["overdue"], one.room.overdue)
        most_spare.add([], one.room.spare)
        hurried.add([], one.room.hurried)
        stuck.add([], len(one.stuck_workers()))
        for number, worker in enumerate(one.workers):
            lag.add([str(number)], worker.lag)
    yield from (active, draining, workers, most, stuck, lag)
    yield from (room, spare, most_spare, hurried)


def _listeners(listeners: Sequence[ListenerStats], bounds: BoundsStats) -> Iterator[Metric]:
    by = ["listener"]
    prefix = "mailweir_listener"
    accepted = exposition.Counter(f"{prefix}_connections", "Connections accepted.", labels=by)
    active = exposition.Gauge(f"{prefix}_connections_active", "Connections now.", labels=by)
    ended = exposition.Counter(
        f"{prefix}_connections_ended", "Connections ended, by reason.", labels=[*by, "reason"]
    )
    received = exposition.Counter(
        f"{prefix}_received_bytes", "Bytes received from clients.", labels=by
    )
    sent = exposition.Counter(f"{prefix}_sent_bytes", "Bytes sent to clients.", labels=by)
    pauses = exposition.Counter(
        f"{prefix}_accept_pauses",
        "Times that accepting paused for want of descriptors or memory.",
        labels=by,
    )
    paused = exposition.Gauge(
        f"{prefix}_paused", "1 where an operator has new sessions refused.", labels=by
    )
    seconds = exposition.Histogram(
        f"{prefix}_session_seconds", "How long sessions lasted.", labels=by
    )
    for listener in listeners:
        labels = [listener.name]
        accepted.add(labels, listener.accepted)
        active.add(labels, listener.active)
        for reason, count in listener.ended.items():
            ended.add([*labels, reason], count)
        received.add(labels, listener.received_bytes)
        sent.add(labels, listener.sent_bytes)
        pauses.add(labels, listener.accept_pauses)
        paused.add(labels, listener.paused)
        _add_histogram(seconds, labels, listener.session_time, bounds.session)
    yield from (accepted, active, ended, received, sent, pauses, paused, seconds)


def _limits(listeners: Sequence[ListenerStats]) -> Iterator[Metric]:
    by = ["listener"]
    prefix = "mailweir_listener"
    would_refuse = exposition.Counter(
        f"{prefix}_would_refuse",
        "Sessions that a limit was against, were it not for dry_run.",
        labels=[*by, "limit"],
    )
    entries = exposition.Gauge(
        f"{prefix}_sources", "Sources that are remembered for limits.", labels=by
    )
    places = exposition.Gauge(
        f"{prefix}_source_places", "Sources that can be remembered.", labels=by
    )
    evicted = exposition.Counter(
        f"{prefix}_sources_evicted", "Sources forgotten early for want of places.", labels=by
    )
    untracked = exposition.Counter(
        f"{prefix}_sources_untracked",
        "Sessions not counted to their source for want of places.",
        labels=by,
    )
    for listener in listeners:
        labels = [listener.name]
        for limit, count in listener.would_refuse.items():
            would_refuse.add([*labels, limit], count)
        if listener.sources:
            entries.add(labels, listener.sources.entries)
            places.add(labels, listener.sources.places)
            evicted.add(labels, listener.sources.evicted)
            untracked.add(labels, listener.sources.untracked)
    yield from (would_refuse, entries, places, evicted, untracked)


def _servers(servers: Sequence[ServerStats], bounds: BoundsStats) -> Iterator[Metric]:
    by = ["pool", "server"]
    prefix = "mailweir_server"
    sessions = exposition.Counter(f"{prefix}_sessions", "Sessions that it took.", labels=by)
    active = exposition.Gauge(f"{prefix}_sessions_active", "Sessions on it now.", labels=by)
    weight = exposition.Gauge(f"{prefix}_weight", "Its weight, 0 to 1000.", labels=by)
    ramp = exposition.Gauge(
        f"{prefix}_ramp", "The share of its weight that slow start allows now.", labels=by
    )
    failures = exposition.Counter(
        f"{prefix}_connect_failures", "Failed connects, by cause.", labels=[*by, "reason"]
    )
    greeting_failures = exposition.Counter(
        f"{prefix}_greeting_failures",
        "Greetings that sent a session to another server, by cause.",
        labels=[*by, "reason"],
    )
    received = exposition.Counter(f"{prefix}_received_bytes", "Bytes received from it.", labels=by)
    sent = exposition.Counter(f"{prefix}_sent_bytes", "Bytes sent to it.", labels=by)
    seconds = exposition.Histogram(
        f"{prefix}_connect_seconds", "How long it took to accept.", labels=by
    )
    greeting_seconds = exposition.Histogram(
        f"{prefix}_greeting_seconds", "How long it took to greet after that.", labels=by
    )
    for server in servers:
        labels = [server.pool, server.name]
        sessions.add(labels, server.sessions)
        active.add(labels, server.active)
        weight.add(labels, server.weight)
        ramp.add(labels, server.ramp)
        for reason, count in server.connect_failures.items():
            failures.add([*labels, reason], count)
        for reason, count in server.greeting_failures.items():
            greeting_failures.add([*labels, reason], count)
        received.add(labels, server.received_bytes)
        sent.add(labels, server.sent_bytes)
        if server.times:
            _add_histogram(seconds, labels, server.times.connect, bounds.connect)
            _add_histogram(greeting_seconds, labels, server.times.greeting, bounds.greeting)
    yield from (sessions, active, weight, ramp, failures, greeting_failures)
    yield from (received, sent, seconds, greeting_seconds)


def _server_states(servers: Sequence[ServerStats]) -> Iterator[Metric]:
    state = exposition.Gauge(
        "mailweir_server_state",
        "1 for the state that a server is in, 0 for the others.",
        labels=["pool", "server", "state"],
    )
    in_pool = exposition.Gauge(
        "mailweir_pool_servers", "Servers of a pool, by state.", labels=["pool", "state"]
    )
    panic = exposition.Gauge(
        "mailweir_pool_panic",
        "1 while so few of its servers are up that those that are down are tried too.",
        labels=["pool"],
    )
    tally: dict[str, Tally[str]] = {}
    for server in servers:
        tally.setdefault(server.pool, Tally())[server.state] += 1
        for one in ServerState:
            state.add([server.pool, server.name, one], server.state == one)
    for pool, counts in tally.items():
        for one in ServerState:
            in_pool.add([pool, one], counts[one])
        panic.add([pool], counts[ServerState.PANIC] > 0)
    yield from (state, in_pool, panic)


def _queues(pools: Sequence[PoolStats], bounds: BoundsStats) -> Iterator[Metric]:
    by = ["pool"]
    prefix = "mailweir_pool"
    waiting = exposition.Gauge(
        f"{prefix}_waiting", "Sessions that wait for a place at a server.", labels=by
    )
    queued = exposition.Counter(
        f"{prefix}_queued", "Sessions that had to wait for a place.", labels=by
    )
    ends = exposition.Counter(
        f"{prefix}_queue_ends", "Waits that ended, by how.", labels=[*by, "end"]
    )
    seconds = exposition.Histogram(f"{prefix}_queue_seconds", "How long they waited.", labels=by)
    for pool in pools:
        labels = [pool.name]
        waiting.add(labels, pool.waiting)
        queued.add(labels, pool.queued)
        for end, count in pool.queue_ends.items():
            ends.add([*labels, end], count)
        _add_histogram(seconds, labels, pool.queue_time, bounds.queue)
    yield from (waiting, queued, ends, seconds)


def _sticky(pools: Sequence[PoolStats]) -> Iterator[Metric]:
    by = ["pool"]
    prefix = "mailweir_pool_sticky"
    entries = exposition.Gauge(
        f"{prefix}_entries", "Sources whose server is remembered.", labels=by
    )
    found = exposition.Counter(
        f"{prefix}_found", "Sessions that went to the server of their source.", labels=by
    )
    made = exposition.Counter(
        f"{prefix}_made", "Sources that were given a server to remember.", labels=by
    )
    broken = exposition.Counter(
        f"{prefix}_broken", "Sessions whose source's server couldn't be used.", labels=by
    )
    evicted = exposition.Counter(
        f"{prefix}_evicted", "Sources forgotten early for want of places.", labels=by
    )
    for pool in pools:
        if pool.sticky:
            labels = [pool.name]
            entries.add(labels, pool.sticky.entries)
            found.add(labels, pool.sticky.found)
            made.add(labels, pool.sticky.made)
            broken.add(labels, pool.sticky.broken)
            evicted.add(labels, pool.sticky.evicted)
    yield from (entries, found, made, broken, evicted)


def _relay(relays: Sequence[RelayStats]) -> Iterator[Metric]:
    copied = exposition.Counter("mailweir_relay_copied_bytes", "Bytes relayed by copying.")
    spliced = exposition.Counter("mailweir_relay_spliced_bytes", "Bytes relayed by splice(2).")
    pipes = exposition.Gauge("mailweir_relay_pipes", "Pipes that exist, lent and idle.")
    failures = exposition.Counter(
        "mailweir_relay_pipe_fallbacks", "Times that no pipe was to be had and bytes were copied."
    )
    budget = exposition.Gauge(
        "mailweir_relay_pipe_budget",
        "Pipes that there may be; 0 where the system refuses splice(2).",
    )
    for relay in relays:
        copied.add([], relay.copied_bytes)
        spliced.add([], relay.spliced_bytes)
        pipes.add([], relay.pipes)
        failures.add([], relay.pipe_fallbacks)
        budget.add([], relay.pipe_budget)
    yield from (copied, spliced, pipes, failures, budget)


def _kernel_path_lacks(stats: Sequence[Stats]) -> Iterator[Metric]:
    """Without a sample where the configuration doesn't want it."""
    up = exposition.Gauge(
        "mailweir_kernel_path_up", "1 where it is there, 0 where it is wanted and isn't."
    )
    outlives = exposition.Gauge(
        "mailweir_kernel_path_outlives_process", "1 where its sessions go on without the process."
    )
    for one in stats:
        if one.kernel_path:
            up.add([], 1)
            outlives.add([], 0 if one.kernel_path.ends_with_process else 1)
        elif one.no_kernel_path:
            up.add([], 0)
    yield from (up, outlives)


def _kernel_path(paths: Sequence[KernelPathStats]) -> Iterator[Metric]:
    prefix = "mailweir_kernel_path"
    flows = exposition.Gauge(f"{prefix}_flows", "Sessions in the kernel now.")
    taken = exposition.Gauge(
        f"{prefix}_places_taken", "Places of flows, with those that ended within a minute."
    )
    most = exposition.Gauge(f"{prefix}_max_flows", "Places that there are.")
    handed = exposition.Counter(f"{prefix}_hand_overs", "Sessions handed over to the kernel.")
    adopted = exposition.Counter(
        f"{prefix}_adopted", "Sessions that an earlier process began and this one goes on with."
    )
    carried = exposition.Counter(f"{prefix}_bytes", "Bytes that the kernel carried by itself.")
    refusals = exposition.Counter(
        f"{prefix}_refusals", "Sessions that took the relay, by reason.", labels=["reason"]
    )
    segments = exposition.Counter(
        f"{prefix}_segments", "Segments of flows, by what became of them.", labels=["what"]
    )
    for path in paths:
        flows.add([], path.flows)
        taken.add([], path.taken)
        most.add([], path.max_flows)
        handed.add([], path.handed_over)
        adopted.add([], path.adopted)
        carried.add([], path.bytes)
        for reason, count in path.refusals.items():
            refusals.add([reason], count)
        for what, count in path.segments.items():
            segments.add([what], count)
    yield from (flows, taken, most, handed, adopted, carried, refusals, segments)


def _kernel_path_ways(paths: Sequence[KernelPathStats]) -> Iterator[Metric]:
    """Where its program is, and by which interfaces flows go."""
    prefix = "mailweir_kernel_path"
    taken_off = exposition.Counter(
        f"{prefix}_taken_off",
        "Times that somebody took its program off an interface; it was attached again.",
    )
    earlier = exposition.Gauge(
        f"{prefix}_earlier", "Sessions of a process of another version, which go on by themselves."
    )
    unpinned = exposition.Counter(
        f"{prefix}_unpinned", "Times that somebody removed its pins; they were made again."
    )
    moved = exposition.Counter(
        f"{prefix}_moved", "Times that a peer was found behind another interface than before."
    )
    not_at = exposition.Gauge(
        f"{prefix}_interfaces_refused", "Interfaces that its program can't be attached to."
    )
    for path in paths:
        taken_off.add([], path.taken_off)
        earlier.add([], path.earlier)
        unpinned.add([], path.unpinned)
        moved.add([], path.moved)
        not_at.add([], len(path.not_at))
    yield from (earlier, taken_off, unpinned, moved, not_at)


def _log(logs: Sequence[LogStats]) -> Iterator[Metric]:
    lines = exposition.Counter("mailweir_session_log_lines", "Sessions written to the log.")
    dropped = exposition.Counter("mailweir_session_log_dropped", "Sessions missing from it.")
    errors = exposition.Counter("mailweir_session_log_errors", "Times it couldn't be written.")
    for log in logs:
        lines.add([], log.lines)
        dropped.add([], log.dropped)
        errors.add([], log.errors)
    yield from (lines, dropped, errors)


def _add_histogram(
    family: exposition.Histogram,
    labels: Sequence[str],
    histogram: Histogram,
    bounds: Sequence[float],
) -> None:
    told = [*map(repr, bounds), "+Inf"]
    family.add(labels, zip(told, accumulate(histogram.counts), strict=True), histogram.sum)
