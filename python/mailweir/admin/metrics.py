"""What Prometheus scrapes. Owned by the daemon, which also reports checks and reloads here.

The data plane's figures are read anew at each scrape by a collector; what happens in
Python (checks, reloads) is counted where it happens. No label ever holds a client's
address. Names: prefix `mailweir_`, base units, `_total` for counters.
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from mailweir import plane
from mailweir.admin import exposition
from mailweir.spec import ServerKey, ServerState

# A loopback EHLO takes 2 ms, postscreen delays its greeting by 6 s.
_CHECK_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0)


class Metrics:
    """The registry and what is counted in Python."""

    def __init__(self, stats: Callable[[], plane.Stats], *, version: str, started: float) -> None:
        """`stats` is called once per scrape; `started` is seconds since 1970."""
        # The `_created` series would double what every counter and histogram costs.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(PlaneCollector(stats))
        build = Gauge("mailweir_build_info", "Always 1.", ["version"], registry=registry)
        build.labels(version).set(1)
        start_time = Gauge(
            "mailweir_start_time_seconds", "When the process began.", registry=registry
        )
        start_time.set(started)
        self._count_checks()
        self._count_reloads()

    def _count_checks(self) -> None:
        registry = self.registry
        self._check_seconds = Histogram(
            "mailweir_check_duration_seconds",
            "How long checks took, failed ones included.",
            ["pool"],
            buckets=_CHECK_BOUNDS,
            registry=registry,
        )
        self._check_failures = Counter(
            "mailweir_check_failures_total",
            "Checks that failed, by the step that did.",
            ["pool", "server", "step"],
            registry=registry,
        )
        self._transitions = Counter(
            "mailweir_server_transitions_total",
            "Times that checks found a server up or down that was not.",
            ["pool", "server"],
            registry=registry,
        )

        self._troubles = Counter(
            "mailweir_server_troubles_total",
            "Times that a server failed live sessions and was checked for it at once.",
            ["pool", "server"],
            registry=registry,
        )

    def _count_reloads(self) -> None:
        registry = self.registry
        self._reload_success = Gauge(
            "mailweir_config_last_reload_success",
            "1 where the last reload (or the start) took the file, 0 where it was refused.",
            registry=registry,
        )
        self._reload_time = Gauge(
            "mailweir_config_last_reload_timestamp_seconds",
            "When the configuration that runs was taken.",
            registry=registry,
        )
        self._reloads = Counter(
            "mailweir_config_reloads_total", "Reloads tried.", registry=registry
        )
        self._reload_failures = Counter(
            "mailweir_config_reload_failures_total",
            "Reloads refused; the old configuration stayed.",
            registry=registry,
        )

    def loaded(self, *, at: float) -> None:
        """The first configuration runs."""
        self._reload_success.set(1)
        self._reload_time.set(at)

    def reloaded(self, *, ok: bool, at: float) -> None:
        """A reload was tried."""
        self._reloads.inc()
        self._reload_success.set(1 if ok else 0)
        if ok:
            self._reload_time.set(at)
        else:
            self._reload_failures.inc()

    def checked(self, key: ServerKey, *, failed_step: str, seconds: float) -> None:
        """A check ended; `failed_step` is empty where it succeeded."""
        self._check_seconds.labels(key.pool).observe(seconds)
        if failed_step:
            self._check_failures.labels(key.pool, key.server, failed_step).inc()

    def trouble(self, key: ServerKey) -> None:
        """A server failed live sessions."""
        self._troubles.labels(key.pool, key.server).inc()

    def transition(self, key: ServerKey) -> None:
        """Checks changed their mind about a server."""
        self._transitions.labels(key.pool, key.server).inc()


class PlaneCollector(Collector):
    """One reading of the data plane per scrape."""

    def __init__(self, stats: Callable[[], plane.Stats]) -> None:
        self._stats = stats

    def describe(self) -> Iterable[Metric]:
        """Names only: registering mustn't need a data plane that runs."""
        yield from _process(())
        yield from _listeners(())
        yield from _servers(())
        yield from _server_states(())
        yield from _relay(())
        yield from _log(())

    def collect(self) -> Iterable[Metric]:
        stats = self._stats()
        servers = stats.servers
        yield from _process((stats,))
        yield from _listeners(stats.listeners)
        yield from _servers(servers)
        yield from _server_states(servers)
        yield from _relay((stats.relay,))
        yield from _kernel_path((stats.kernel_path,) if stats.kernel_path else ())
        yield from _log((stats.log,))


def _process(stats: Sequence[plane.Stats]) -> Iterator[Metric]:
    generation = exposition.Gauge(
        "mailweir_config_generation", "Number of the snapshot that runs; 0 before the first."
    )
    active = exposition.Gauge("mailweir_sessions_active", "Sessions now.")
    draining = exposition.Gauge("mailweir_draining", "1 while the process drains.")
    workers = exposition.Gauge("mailweir_workers", "Data-plane threads.")
    most = exposition.Gauge("mailweir_max_sessions", "Sessions that there may be at a time.")
    stuck = exposition.Gauge(
        "mailweir_workers_stuck", "Workers that don't move; their listeners are out of use."
    )
    lag = exposition.Gauge(
        "mailweir_worker_lag_seconds", "Since a worker showed that it moves.", labels=["worker"]
    )
    for one in stats:
        generation.add([], one.generation)
        active.add([], one.active)
        draining.add([], one.draining)
        workers.add([], one.workers)
        most.add([], one.max_sessions)
        stuck.add([], len(one.stuck_workers))
        for number, seconds in enumerate(one.worker_lags):
            lag.add([str(number)], seconds)
    yield from (generation, active, draining, workers, most, stuck, lag)


def _listeners(listeners: Sequence[plane.ListenerStats]) -> Iterator[Metric]:
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
        _add_histogram(seconds, labels, listener.session_seconds)
    yield from (accepted, active, ended, received, sent, pauses, paused, seconds)


def _servers(servers: Sequence[plane.ServerStats]) -> Iterator[Metric]:
    by = ["pool", "server"]
    prefix = "mailweir_server"
    sessions = exposition.Counter(f"{prefix}_sessions", "Sessions that it took.", labels=by)
    active = exposition.Gauge(f"{prefix}_sessions_active", "Sessions on it now.", labels=by)
    weight = exposition.Gauge(f"{prefix}_weight", "Its weight, 0 to 1000.", labels=by)
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
        for reason, count in server.connect_failures.items():
            failures.add([*labels, reason], count)
        for reason, count in server.greeting_failures.items():
            greeting_failures.add([*labels, reason], count)
        received.add(labels, server.received_bytes)
        sent.add(labels, server.sent_bytes)
        _add_histogram(seconds, labels, server.connect_seconds)
        _add_histogram(greeting_seconds, labels, server.greeting_seconds)
    yield from (sessions, active, weight, failures, greeting_failures)
    yield from (received, sent, seconds, greeting_seconds)


def _server_states(servers: Sequence[plane.ServerStats]) -> Iterator[Metric]:
    state = exposition.Gauge(
        "mailweir_server_state",
        "1 for the state that a server is in, 0 for the others.",
        labels=["pool", "server", "state"],
    )
    in_pool = exposition.Gauge(
        "mailweir_pool_servers", "Servers of a pool, by state.", labels=["pool", "state"]
    )
    tally: dict[str, Tally[str]] = {}
    for server in servers:
        tally.setdefault(server.pool, Tally())[server.state] += 1
        for one in ServerState:
            state.add([server.pool, server.name, one], server.state == one)
    for pool, counts in tally.items():
        for one in ServerState:
            in_pool.add([pool, one], counts[one])
    yield from (state, in_pool)


def _relay(relays: Sequence[plane.RelayStats]) -> Iterator[Metric]:
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


def _kernel_path(paths: Sequence[plane.KernelPathStats]) -> Iterator[Metric]:
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
    taken_off = exposition.Counter(
        f"{prefix}_taken_off",
        "Times that somebody took its program off an interface; it was attached again.",
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
        taken_off.add([], path.taken_off)
        carried.add([], path.bytes)
        for reason, count in path.refusals.items():
            refusals.add([reason], count)
        for what, count in path.segments.items():
            segments.add([what], count)
    yield from (flows, taken, most, handed, adopted, taken_off, carried, refusals, segments)


def _log(logs: Sequence[plane.LogStats]) -> Iterator[Metric]:
    lines = exposition.Counter("mailweir_session_log_lines", "Sessions written to the log.")
    dropped = exposition.Counter("mailweir_session_log_dropped", "Sessions missing from it.")
    errors = exposition.Counter("mailweir_session_log_errors", "Times it couldn't be written.")
    for log in logs:
        lines.add([], log.lines)
        dropped.add([], log.dropped)
        errors.add([], log.errors)
    yield from (lines, dropped, errors)


def _add_histogram(
    family: exposition.Histogram, labels: Sequence[str], histogram: plane.Histogram
) -> None:
    bounds = [*map(repr, histogram.bounds), "+Inf"]
    family.add(labels, zip(bounds, accumulate(histogram.counts), strict=True), histogram.sum)
