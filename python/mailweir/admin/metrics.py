"""What Prometheus scrapes of what happens in Python. Owned by the daemon, which reports checks and
reloads here.

They are counted where they happen, and shown by the rows below. The rest is read anew at each
scrape (`scraping`). No label ever holds a client's address. Names: prefix `mailweir_`, base units,
`_total` for counters.
"""

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Mapping, Set
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector

from mailweir.admin.exposition import Counter, Gauge, Group, Histogram, Table
from mailweir.admin.process_faults import FAULTS
from mailweir.faults import Faults
from mailweir.reload import ReloadOutcome
from mailweir.spec import ServerKey
from mailweir.state.desired import Health
from mailweir.stats import Histogram as Times

# A loopback EHLO takes 2 ms, postscreen delays its greeting by 6 s.
_CHECK_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0)


# A check of a server, by its name.
_Check = tuple[ServerKey, str]


class Metrics:
    """The registry, and what is counted in Python: in the event loop, while scrapes read it in a
    thread of theirs.
    """

    def __init__(self, faults: Faults, *, version: str, started: float) -> None:
        """`started` is seconds since 1970."""
        self.version = version
        self.started = started
        self.generation = 0
        self.reloads = 0
        self.reload_failures = 0
        self.last_reload_succeeded = False
        self.last_reload_at = 0.0
        # Only of servers that are configured.
        self.check_times: dict[str, Times] = {}  # by pool
        self.check_failures: Tally[tuple[ServerKey, str]] = Tally()  # by the step that failed
        self.check_results: Tally[tuple[_Check, str]] = Tally()  # by verdict
        self.check_alarms: dict[_Check, bool] = {}
        self.certificate_ends: dict[_Check, float] = {}
        self.transitions: Tally[ServerKey] = Tally()
        self.troubles: Tally[ServerKey] = Tally()
        self.ejections: Tally[tuple[ServerKey, str]] = Tally()  # by cause
        self.failing: Mapping[str, int] = {}  # servers by pool
        self._servers: Set[ServerKey] = frozenset()

        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(Table([FAULTS], lambda: faults))
        self.registry.register(Table(COUNTED, lambda: self))

    def keep(self, servers: Set[ServerKey]) -> None:
        """These are configured. What was counted of others is forgotten, and what still comes of
        them isn't counted.
        """
        pools = {key.pool for key in servers}
        self._servers = servers
        self.check_times = {
            pool: times for pool, times in self.check_times.items() if pool in pools
        }
        self.check_failures = Tally(
            {what: times for what, times in self.check_failures.items() if what[0] in servers}
        )
        self.failing = {pool: number for pool, number in self.failing.items() if pool in pools}
        known = {one for one in self.check_alarms if one[0] in servers}
        self.keep_checks(known)
        self.transitions = _of(servers, self.transitions)
        self.troubles = _of(servers, self.troubles)
        self.ejections = Tally(
            {what: times for what, times in self.ejections.items() if what[0] in servers}
        )

    def loaded(self, outcome: ReloadOutcome) -> None:
        """The first configuration runs."""
        self.last_reload_succeeded = True
        self.last_reload_at = outcome.at
        self.generation = outcome.generation

    def reloaded(self, outcome: ReloadOutcome) -> None:
        """A reload was tried."""
        self.reloads += 1
        if outcome.ok:
            self.loaded(outcome)
        else:
            self.last_reload_succeeded = False
            self.reload_failures += 1

    def checked(
        self,
        key: ServerKey,
        check: str,
        *,
        verdict: Health | None,
        failed_step: str,
        seconds: float,
        alarm: bool,
        certificate_end: float | None,
    ) -> None:
        """A check ended; `failed_step` is empty where it succeeded, `verdict` None where it
        couldn't be made. `certificate_end` is in seconds since 1970.
        """
        if key not in self._servers:
            return
        before = self.check_times.get(key.pool, _NO_TIMES)
        counts = list(before.counts)
        counts[bisect_left(_CHECK_BOUNDS, seconds)] += 1
        self.check_times[key.pool] = Times(tuple(counts), before.sum + seconds)
        if failed_step:
            self.check_failures[key, failed_step] += 1
        self.check_results[(key, check), verdict or "none"] += 1
        self.check_alarms[key, check] = alarm
        if certificate_end is not None:
            self.certificate_ends[key, check] = certificate_end

    def keep_checks(self, checks: Set[_Check]) -> None:
        """The same as `keep`, of checks by server and name."""
        self.check_results = Tally(
            {what: times for what, times in self.check_results.items() if what[0] in checks}
        )
        self.check_alarms = {one: is_ for one, is_ in self.check_alarms.items() if one in checks}
        self.certificate_ends = {
            one: end for one, end in self.certificate_ends.items() if one in checks
        }

    def trouble(self, key: ServerKey) -> None:
        """A server failed live sessions."""
        if key in self._servers:
            self.troubles[key] += 1

    def ejected(self, key: ServerKey, cause: str) -> None:
        """A server was ejected."""
        if key in self._servers:
            self.ejections[key, cause] += 1

    def transition(self, key: ServerKey) -> None:
        """Checks changed their mind about a server."""
        if key in self._servers:
            self.transitions[key] += 1


_NO_TIMES = Times((0,) * (len(_CHECK_BOUNDS) + 1), 0.0)


def _of(servers: Set[ServerKey], tally: Tally[ServerKey]) -> Tally[ServerKey]:
    return Tally({key: times for key, times in tally.items() if key in servers})


_PROCESS = Group[Metrics, Metrics](
    (),
    lambda counted: [((), counted)],
    Gauge(
        "mailweir_start_time_seconds", "When the process began.", lambda counted: counted.started
    ),
    Gauge(
        "mailweir_config_generation",
        "Number of the configuration in force: one more for each that differs from the one"
        " before; 0 before the first.",
        lambda counted: counted.generation,
    ),
    Gauge(
        "mailweir_config_last_reload_success",
        "1 where the last reload (or the start) took the file, 0 where it was refused.",
        lambda counted: counted.last_reload_succeeded,
    ),
    Gauge(
        "mailweir_config_last_reload_timestamp_seconds",
        "When the configuration that runs was taken.",
        lambda counted: counted.last_reload_at,
    ),
    Counter("mailweir_config_reloads", "Reloads tried.", lambda counted: counted.reloads),
    Counter(
        "mailweir_config_reload_failures",
        "Reloads refused; the old configuration stayed.",
        lambda counted: counted.reload_failures,
    ),
)
_BUILD = Group[Metrics, int](
    ("version",),
    lambda counted: [((counted.version,), 1)],
    Gauge("mailweir_build_info", "Always 1.", lambda one: one),
)
# The event loop counts on while these are gone through, so that copies are: each is made at once.
_CHECKED_POOLS = Group[Metrics, Times](
    ("pool",),
    lambda counted: (((pool,), times) for pool, times in dict(counted.check_times).items()),
    Histogram(
        "mailweir_check_duration_seconds",
        "How long checks took, failed ones included.",
        lambda _: _CHECK_BOUNDS,
        lambda times: times,
    ),
)
_CHECK_FAILURES = Group[Metrics, int](
    ("pool", "server", "step"),
    lambda counted: (((*key, step), n) for (key, step), n in dict(counted.check_failures).items()),
    Counter(
        "mailweir_check_failures", "Checks that failed, by the step that did.", lambda times: times
    ),
)
_CHECK_RESULTS = Group[Metrics, int](
    ("pool", "server", "check", "verdict"),
    lambda counted: (
        ((*key, check, verdict), times)
        for ((key, check), verdict), times in dict(counted.check_results).items()
    ),
    Counter(
        "mailweir_check_results",
        "Checks by name and verdict: up, drain, down, or none where it couldn't be made.",
        lambda times: times,
    ),
)
_CHECK_ALARMS = Group[Metrics, bool](
    ("pool", "server", "check"),
    lambda counted: (
        ((*key, check), is_) for (key, check), is_ in dict(counted.check_alarms).items()
    ),
    Gauge(
        "mailweir_check_alarm",
        "1 where a check fails, couldn't be made, or saw what is about to go wrong.",
        lambda is_: is_,
    ),
)
_CERTIFICATES = Group[Metrics, float](
    ("pool", "server", "check"),
    lambda counted: (
        ((*key, check), end) for (key, check), end in dict(counted.certificate_ends).items()
    ),
    Gauge(
        "mailweir_check_certificate_end_timestamp_seconds",
        "When the certificate that a check saw ends.",
        lambda end: end,
    ),
)
_TRANSITIONS = Group[Metrics, int](
    ("pool", "server"),
    lambda counted: dict(counted.transitions).items(),
    Counter(
        "mailweir_server_transitions",
        "Times that checks found a server up or down that was not.",
        lambda times: times,
    ),
)
_TROUBLES = Group[Metrics, int](
    ("pool", "server"),
    lambda counted: dict(counted.troubles).items(),
    Counter(
        "mailweir_server_troubles",
        "Times that a server failed live sessions and was checked for it at once.",
        lambda times: times,
    ),
)
_EJECTIONS = Group[Metrics, int](
    ("pool", "server", "reason"),
    lambda counted: (((*key, cause), n) for (key, cause), n in dict(counted.ejections).items()),
    Counter(
        "mailweir_server_ejections",
        "Times that a server got no new sessions for a while, since it spoiled those that it had:"
        " so many in a row (consecutive), or a larger share than the others (share).",
        lambda times: times,
    ),
)
_FAILING = Group[Metrics, int](
    ("pool",),
    lambda counted: (((pool,), number) for pool, number in counted.failing.items()),
    Gauge(
        "mailweir_pool_failing_servers",
        "Servers that fail sessions and are used all the same: the others are no better, or no more"
        " may be ejected.",
        lambda number: number,
    ),
)
COUNTED: tuple[Group[Metrics, Any], ...] = (
    _BUILD,
    _PROCESS,
    _CHECKED_POOLS,
    _CHECK_FAILURES,
    _CHECK_RESULTS,
    _CHECK_ALARMS,
    _CERTIFICATES,
    _TRANSITIONS,
    _TROUBLES,
    _EJECTIONS,
    _FAILING,
)
