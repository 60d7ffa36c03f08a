"""Metrics in Prometheus's text format 0.0.4: `metrics` makes them, the admin routes send them.

What there is of every server is written as it is read: 10 000 servers have half a million
samples, of which prometheus_client would make objects and then text for 11 s.
"""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class _Lines(Metric):
    """One metric and its samples, as text."""

    kind: str
    suffix = ""

    def __init__(self, name: str, documentation: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, documentation, self.kind)
        whole = f"{name}{self.suffix}"
        self.lines = [f"# HELP {whole} {documentation}", f"# TYPE {whole} {self.kind}"]
        # Nothing in it needs escaping: names (`config.model`) and words of our own.
        self._pairs = ",".join(f'{label}="%s"' for label in labels)


class Gauge(_Lines):
    """What goes up and down."""

    kind = "gauge"

    def add(self, labels: Sequence[str], value: float) -> None:
        """A sample; a bool counts as 1 or 0."""
        pairs = f"{{{self._pairs % tuple(labels)}}}" if labels else ""
        self.lines.append(f"{self.name}{self.suffix}{pairs} {+value}")


class Counter(Gauge):
    """What goes up."""

    kind = "counter"
    suffix = "_total"


class Histogram(_Lines):
    """How often something was within each bound."""

    kind = "histogram"

    def add(self, labels: Sequence[str], buckets: Iterable[tuple[str, int]], total: float) -> None:
        """The buckets' counts add up from one to the next; the last bound is +Inf."""
        pairs, name, count = self._pairs % tuple(labels), self.name, 0
        for bound, count in buckets:
            self.lines.append(f'{name}_bucket{{{pairs},le="{bound}"}} {count}')
        self.lines.append(f"{name}_count{{{pairs}}} {count}")
        self.lines.append(f"{name}_sum{{{pairs}}} {total}")


def encode(registry: CollectorRegistry) -> bytes:
    """All that the registry has."""
    lines: list[str] = []
    others: list[Metric] = []
    for metric in registry.collect():
        if isinstance(metric, _Lines):
            lines += metric.lines
        else:
            others.append(metric)
    lines.append("")
    return "\n".join(lines).encode() + generate_latest(_Others(others))


class _Others(Collector):
    """What prometheus_client counts itself."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics
