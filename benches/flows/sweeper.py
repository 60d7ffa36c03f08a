"""The share of a core that the thread has which looks after flows, at rest and while all speak."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from benches.flows.measure import SWEEPER, thread_cpu_ns
from benches.flows.site import Site, around, resting

from harness.networks.row import LEGS, Row

_MOST_FLOWS = 65_536
_EVERY = 1000  # milliseconds
_SETTLE = 3.0


class How(StrEnum):
    """What the flows do."""

    IDLE = "idle"
    CUT = "idle, and what is sent is dropped before the interface"
    SPEAKS = "each speaks once a second"


@dataclass(frozen=True)
class Share:
    """Per cent of a core, while so many segments a second were passed on."""

    flows: int
    how: How
    sweeper: float
    segments: float


def measured(rounds: int, flows: int, seconds: float) -> list[Share]:
    """Of idle flows, with and without the way of their keepalives through both peers, then of flows
    that say something each second.
    """
    shares = []
    with around(_MOST_FLOWS) as place:
        for number, how in enumerate(How):
            more = ["--rest", *([f"--every={_EVERY}"] if how is How.SPEAKS else [])]
            with (
                place.balancer() as site,
                place.packets.clients(resting(flows, number), *more) as crowd,
            ):
                crowd.rest()
                site.until_flows(flows, limit=20)
                time.sleep(_SETTLE)
                for _ in range(rounds):
                    with _cut(place.networks) if how is How.CUT else nullcontext():
                        shares.append(_share(site, flows, how, seconds))
                    print(shares[-1], file=sys.stderr)
                crowd.go_on()
                report = crowd.report()
                assert report["done"] == flows, report
    return shares


@contextmanager
def _cut(networks: Row) -> Iterator[None]:
    """Nothing leaves the balancer: on one machine it is the sender's thread that a peer's whole
    stack runs in.
    """
    chains = "".join(
        f"chain {leg} {{\n type filter hook egress device {leg} priority 0;\n drop\n }}\n"
        for leg, _, _ in LEGS.values()
    )
    networks.run("l", "nft", f"table netdev cut {{\n {chains}}}")
    try:
        yield
    finally:
        networks.run("l", "nft", "delete table netdev cut")


def _share(site: Site, flows: int, how: How, seconds: float) -> Share:
    before = thread_cpu_ns(site.pid, SWEEPER), site.kernel_path()["segments"]["rewritten"]
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    spent = thread_cpu_ns(site.pid, SWEEPER) - before[0]
    segments = site.kernel_path()["segments"]["rewritten"] - before[1]
    return Share(flows, how, spent / took / 1e7, segments / took)


def table(shares: list[Share]) -> str:
    """Medians."""
    lines = ["| flows | | segments/s | share of a core | min-max |", "|---:|---|---:|---:|---:|"]
    for how in How:
        of = [share for share in shares if share.how is how]
        shown = [share.sweeper for share in of]
        lines.append(
            f"| {of[0].flows} | {how}"
            f" | {median(share.segments for share in of):.0f}"
            f" | {median(shown):.2f} % | {min(shown):.2f}-{max(shown):.2f} % |"
        )
    return "\n".join(lines)
