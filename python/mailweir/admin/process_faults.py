"""What is wrong with the process itself, as metrics: bugs of ours, and lines of its log that nobody
read. Part of `metrics`.
"""

from collections.abc import Iterable

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from mailweir import logs
from mailweir.admin import exposition
from mailweir.faults import FaultPart, Faults


class ProcessFaults(Collector):
    """Read anew at each scrape."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def collect(self) -> Iterable[Metric]:
        found = exposition.Counter(
            "mailweir_internal_errors",
            "Bugs of ours that came up, by where; any is worth an alert.",
            labels=["part"],
        )
        for part in FaultPart:
            found.add([part], self._faults.times(part))
        dropped = exposition.Counter(
            "mailweir_stderr_lines_dropped",
            "Lines of the process's log that were dropped, since nobody read standard error.",
        )
        dropped.add([], logs.dropped())
        yield from (found, dropped)
