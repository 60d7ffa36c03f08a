"""Which metrics there are, with their labels: of both processes, from the rows that make them."""

from collections.abc import Iterator, Sequence
from typing import Any

from mailweir.admin.exposition import CounterBy, GaugeBy, Group, Histogram, Row, Summary, Table
from mailweir.admin.ha_role import NodeRole
from mailweir.admin.metrics import Metrics
from mailweir.admin.refusals import Refusals
from mailweir.admin.scraping import tables
from mailweir.faults import Faults
from mailweir.ha.links import Links
from mailweir.ha.machine.inputs import Machine
from mailweir.ha.pair_metrics import Seen, pair_metrics
from mailweir.ha.settings import settings_of
from unit.admin.situations import situation
from unit.ha.test_links import KEYS, pair

# What Prometheus adds to each sample, and what it says itself of each address that it scrapes.
ADDED = {"job", "instance"}
_ITS_OWN: dict[str, set[str]] = {"up": set()}


def exported() -> dict[str, set[str]]:
    """Labels by the name of a sample, as `mailweir_pool_queue_seconds_bucket`."""
    found = registered()
    for table in tables(situation()):
        found |= of_groups(table.groups)
    return found


def registered() -> dict[str, set[str]]:
    """Those that a registry has: it sees itself that no name is there twice."""
    registry = Metrics(Faults(), version="1.2.3", started=900.0).registry
    NodeRole(registry, on_change=lambda _: None)
    Refusals(registry)
    registry.register(_pair())
    found = dict(_ITS_OWN)
    # The registry has no way to ask what it was given.
    for one in registry._collector_to_names:
        if isinstance(one, Table):
            found |= of_groups(one.groups)
        else:
            names = {sample.name for metric in one.collect() for sample in metric.samples}
            found |= {name: set() for name in names}
    return found


def of_groups(groups: Sequence[Group[Any, Any]]) -> dict[str, set[str]]:
    """The same of some groups."""
    return {
        name: labels
        for group in groups
        for row in group.rows
        for name, labels in _of_row(row, set(group.labels))
    }


def _pair() -> Table[Seen]:
    machine = Machine(settings_of(pair(), "a"), epoch=5, now=0.0)
    return pair_metrics(machine.known, Links(pair(), "a", KEYS))


def _of_row(row: Row[Any, Any], labels: set[str]) -> Iterator[tuple[str, set[str]]]:
    match row:
        case Histogram():
            yield f"{row.name}_bucket", labels | {"le"}
            yield f"{row.name}_count", labels
            yield f"{row.name}_sum", labels
        case Summary():
            yield f"{row.name}_count", labels
            yield f"{row.name}_sum", labels
        case GaugeBy() | CounterBy():
            yield row.whole_name, labels | {row.by}
        case _:
            yield row.whole_name, labels
