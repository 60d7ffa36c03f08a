"""What a session costs while others rest: the same load beside 0, 10 000 and 60 000 idle flows."""

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median

from benches.flows.measure import program_runs, programs_counted
from benches.flows.site import Site, around, resting
from benches.peers.measure import tree_cpu_ns

from harness.servers.packets import Flood

_MOST_FLOWS = 65_536
_CLIENTS = 1000
# Apart from those of clients at rest.
_LOAD_FROM = f"10.9.192.1/{_CLIENTS}"


@dataclass(frozen=True)
class Cost:
    """One run of the load, beside so many idle flows: microseconds a session."""

    idle: int
    process: float
    program: float
    failed: int
    relayed: int


def measured(levels: list[int], rounds: int, sessions: int, rate: int) -> list[Cost]:
    """A balancer for each number of idle flows, all there at a time; they get the load in turn, in
    each round in the other order. So what the machine does besides hits all alike.
    """
    costs: list[Cost] = []
    ports = itertools.count(1024, -(-sessions // _CLIENTS))
    with ExitStack() as exits:
        exits.enter_context(programs_counted())
        sites = [(idle, exits.enter_context(_beside(idle))) for idle in levels]
        for number in range(-1, rounds):
            flood = Flood(_LOAD_FROM, sessions, rate, next(ports))
            of_round = [
                _load(idle, site, flood) for idle, site in (sites if number % 2 else sites[::-1])
            ]
            print(number, of_round, file=sys.stderr)
            # What is made at first use is there before it is measured.
            costs += of_round if number >= 0 else []
    return costs


@contextmanager
def _beside(idle: int) -> Iterator[Site]:
    """A balancer with so many flows at rest, which go on and end with it."""
    with around(_MOST_FLOWS) as place, place.balancer() as site:
        if not idle:
            yield site
            return
        with place.packets.clients(resting(idle, 0), "--rest") as crowd:
            crowd.rest()
            site.until_flows(idle, limit=20)
            yield site
            crowd.go_on()
            report = crowd.report()
            assert report["done"] == idle, report


def _load(idle: int, site: Site, flood: Flood) -> Cost:
    process, program = tree_cpu_ns(site.pid), program_runs(site.pins)
    handed_over = site.kernel_path()["handed_over"]
    with site.packets.clients(flood) as clients:
        report = clients.report()
    site.until_flows(idle, limit=20)
    relayed = flood.sessions - (site.kernel_path()["handed_over"] - handed_over)
    return Cost(
        idle,
        (tree_cpu_ns(site.pid) - process) / 1000 / flood.sessions,
        (program_runs(site.pins) - program) / 1000 / flood.sessions,
        sum(report["failed"].values()),
        relayed,
    )


def table(costs: list[Cost]) -> str:
    """Medians by number of idle flows, and of what each is beside the first in the same round."""
    lines = [
        "| idle flows | process us/session | min-max | / none | program us/session | / none"
        " | both / none | failed | relayed |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    levels = list(dict.fromkeys(sorted(cost.idle for cost in costs)))
    by_level = {level: [cost for cost in costs if cost.idle == level] for level in levels}

    def ratio(level: int, figure: Callable[[Cost], float]) -> float:
        pairs = zip(by_level[level], by_level[levels[0]], strict=True)
        return median(figure(own) / figure(none) for own, none in pairs)

    for level, of in by_level.items():
        process = [cost.process for cost in of]
        lines.append(
            f"| {level} | {median(process):.1f} | {min(process):.1f}-{max(process):.1f}"
            f" | {ratio(level, lambda cost: cost.process):.3f}"
            f" | {median(cost.program for cost in of):.2f}"
            f" | {ratio(level, lambda cost: cost.program):.3f}"
            f" | {ratio(level, lambda cost: cost.process + cost.program):.3f}"
            f" | {sum(cost.failed for cost in of)} | {sum(cost.relayed for cost in of)} |"
        )
    return "\n".join(lines)
