"""Metrics as rows of tables, and as Prometheus's text format 0.0.4. The admin routes of both
processes send it.

A row says all there is of a metric: its name, its help, and where its value comes from; a group of
rows says what they are of. What is scraped and what is registered (names and help alone) are made
of the same rows. Text is made at once: 10 000 servers have half a million samples, of which
prometheus_client would make objects and then text for 11 s.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any, ClassVar, Generic, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mailweir import stats

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

Reading = TypeVar("Reading")
Thing = TypeVar("Thing")
# Things, each with its labels as text: `pool="farm",server="a"`, or nothing.
_Found = Sequence[tuple[str, Thing]]


@dataclass(frozen=True)
class Row(ABC, Generic[Reading, Thing]):
    """A metric: its name, a counter's without `_total`, and its help."""

    kind: ClassVar[str]
    suffix: ClassVar[str] = ""

    name: str
    help: str

    @property
    def whole_name(self) -> str:
        """As samples have it."""
        return f"{self.name}{self.suffix}"

    @abstractmethod
    def lines(self, found: _Found[Thing], reading: Reading) -> list[str]:
        """The samples of all things that were found in a reading."""


@dataclass(frozen=True)
class Gauge(Row[Reading, Thing]):
    """What goes up and down. A bool counts as 1 or 0; of None there is no sample."""

    kind = "gauge"

    value: Callable[[Thing], float | None]

    def lines(self, found: _Found[Thing], reading: Reading) -> list[str]:
        name, value = self.whole_name, self.value
        return [
            f"{name}{{{pairs}}} {+number}" if pairs else f"{name} {+number}"
            for pairs, thing in found
            if (number := value(thing)) is not None
        ]


@dataclass(frozen=True)
class Counter(Gauge[Reading, Thing]):
    """What goes up."""

    kind = "counter"
    suffix = "_total"


@dataclass(frozen=True)
class GaugeBy(Row[Reading, Thing]):
    """What goes up and down, once for each value of the label `by`."""

    kind = "gauge"

    by: str
    values: Callable[[Thing], Mapping[str, float]]

    def lines(self, found: _Found[Thing], reading: Reading) -> list[str]:
        name, by, values = self.whole_name, self.by, self.values
        return [
            f'{name}{{{pairs}{"," if pairs else ""}{by}="{word}"}} {+number}'
            for pairs, thing in found
            for word, number in values(thing).items()
        ]


@dataclass(frozen=True)
class CounterBy(GaugeBy[Reading, Thing]):
    """What goes up, once for each value of the label `by`."""

    kind = "counter"
    suffix = "_total"


@dataclass(frozen=True)
class Histogram(Row[Reading, Thing]):
    """How often something was within each bound; the last bound is +Inf."""

    kind = "histogram"

    bounds: Callable[[Reading], Sequence[float]]
    value: Callable[[Thing], stats.Histogram]

    def lines(self, found: _Found[Thing], reading: Reading) -> list[str]:
        told = [*map(repr, self.bounds(reading)), "+Inf"]
        bounds = [f',le="{bound}"}} ' for bound in told]
        name, value = self.name, self.value
        lines: list[str] = []
        for pairs, thing in found:
            histogram, begin, count = value(thing), f"{name}_bucket{{{pairs}", 0
            # The counts add up from one bound to the next.
            for bound, count in zip(bounds, accumulate(histogram.counts), strict=True):
                lines.append(f"{begin}{bound}{count}")
            lines.append(f"{name}_count{{{pairs}}} {count}")
            lines.append(f"{name}_sum{{{pairs}}} {histogram.sum}")
        return lines


@dataclass(frozen=True)
class Summary(Row[Reading, Thing]):
    """How often something was, and how much all of it was together: of many things, where a
    histogram for each would be too much.
    """

    kind = "summary"

    value: Callable[[Thing], tuple[int, float]]

    def lines(self, found: _Found[Thing], reading: Reading) -> list[str]:
        lines: list[str] = []
        for pairs, thing in found:
            count, total = self.value(thing)
            lines.append(f"{self.name}_count{{{pairs}}} {count}")
            lines.append(f"{self.name}_sum{{{pairs}}} {total}")
        return lines


class Group(Generic[Reading, Thing]):
    """The metrics that there are of each of some things, a row for each."""

    def __init__(
        self,
        labels: tuple[str, ...],
        find: Callable[[Reading], Iterable[tuple[tuple[str, ...], Thing]]],
        *rows: Row[Reading, Thing],
    ) -> None:
        """`find` has all things of a reading, each behind the values of its labels."""
        self.labels = labels
        self.rows = rows
        self._find = find
        # Nothing in it needs escaping: names (`config.model`) and words of our own.
        self._pairs = ",".join(f'{label}="%s"' for label in labels)

    def families(self, reading: Reading) -> Iterator[Metric]:
        """Every metric with its samples."""
        found = [(self._pairs % names, thing) for names, thing in self._find(reading)]
        for row in self.rows:
            yield _Family(row, row.lines(found, reading))


class _Family(Metric):
    """One metric with its samples as text."""

    def __init__(self, row: Row[Any, Any], lines: Sequence[str] = ()) -> None:
        super().__init__(row.name, row.help, row.kind)
        head = (f"# HELP {row.whole_name} {row.help}", f"# TYPE {row.whole_name} {row.kind}")
        self.text = "\n".join([*head, *lines, ""])


class Table(Collector, Generic[Reading]):
    """Groups of metrics, filled by one reading per scrape."""

    def __init__(self, groups: Sequence[Group[Reading, Any]], read: Callable[[], Reading]) -> None:
        self.groups = groups
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Names and help only: registering mustn't need a reading."""
        return (_Family(row) for group in self.groups for row in group.rows)

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        reading = self._read()
        return chain.from_iterable(group.families(reading) for group in self.groups)


def encode(registry: CollectorRegistry, *more: Collector) -> bytes:
    """All that the registry has, and `more`."""
    texts: list[str] = []
    others: list[Metric] = []
    for metric in chain(registry.collect(), *(one.collect() for one in more)):
        if isinstance(metric, _Family):
            texts.append(metric.text)
        else:
            others.append(metric)
    return "".join(texts).encode() + generate_latest(_Others(others))


class _Others(Collector):
    """What prometheus_client counts itself."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics
