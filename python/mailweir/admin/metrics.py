"""What Prometheus scrapes. Owned by the daemon, which also reports checks and reloads here.

The data plane's figures are read anew at each scrape by a collector (`figures`); what happens
in Python (checks, reloads) is counted where it happens. No label ever holds a client's
address. Names: prefix `mailweir_`, base units, `_total` for counters.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from mailweir.admin.figures import PlaneCollector, Source
from mailweir.admin.process import ProcessFaults
from mailweir.admin.views import ReloadOutcome
from mailweir.faults import Faults
from mailweir.spec import ServerKey

# A loopback EHLO takes 2 ms, postscreen delays its greeting by 6 s.
_CHECK_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0)


class Metrics:
    """The registry and what is counted in Python."""

    def __init__(self, plane: Source, faults: Faults, *, version: str, started: float) -> None:
        """`plane` is read once per scrape; `started` is seconds since 1970."""
        # The `_created` series would double what every counter and histogram costs.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(PlaneCollector(plane))
        registry.register(ProcessFaults(faults))
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
        self._generation = Gauge(
            "mailweir_config_generation",
            "Number of the configuration in force: one more for each that differs from the one"
            " before; 0 before the first.",
            registry=registry,
        )
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

    def loaded(self, outcome: ReloadOutcome) -> None:
        """The first configuration runs."""
        self._reload_success.set(1)
        self._reload_time.set(outcome.at)
        self._generation.set(outcome.generation)

    def reloaded(self, outcome: ReloadOutcome) -> None:
        """A reload was tried."""
        self._reloads.inc()
        if outcome.ok:
            self.loaded(outcome)
        else:
            self._reload_success.set(0)
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
