"""The share of a core that the thread has which looks after flows, at rest and while all speak."""

import sys
import time
from dataclasses import dataclass
from statistics import median

from benches.flows.measure import SWEEPER, thread_cpu_ns
from benches.flows.site import Site, around, resting

_MOST_FLOWS = 65_536
_EVERY = 1000  # milliseconds
_SETTLE = 3.0


@dataclass(frozen=True)
class Share:
    """Per cent of a core, while so many segments a second were passed on."""

    flows: int
    speaks: bool
    sweeper: float
    segments: float


def measured(rounds: int, flows: int, seconds: float) -> list[Share]:
    """Of idle flows, then of ones that say something each second."""
    shares = []
    with around(_MOST_FLOWS) as place:
        for number, speaks in enumerate((False, True)):
            more = ["--rest", *([f"--every={_EVERY}"] if speaks else [])]
            with (
                place.balancer() as site,
                place.packets.clients(resting(flows, number), *more) as crowd,
            ):
                crowd.rest()
                site.until_flows(flows, limit=20)
                time.sleep(_SETTLE)
                for _ in range(rounds):
                    shares.append(_share(site, flows, speaks, seconds))
                    print(shares[-1], file=sys.stderr)
                crowd.go_on()
                report = crowd.report()
                assert report["done"] == flows, report
    return shares


def _share(site: Site, flows: int, speaks: bool, seconds: float) -> Share:
    before = thread_cpu_ns(site.pid, SWEEPER), site.kernel_path()["segments"]["rewritten"]
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    spent = thread_cpu_ns(site.pid, SWEEPER) - before[0]
    segments = site.kernel_path()["segments"]["rewritten"] - before[1]
    return Share(flows, speaks, spent / took / 1e7, segments / took)


def table(shares: list[Share]) -> str:
    """Medians."""
    lines = ["| flows | | segments/s | share of a core | min-max |", "|---:|---|---:|---:|---:|"]
    for speaks in (False, True):
        of = [share for share in shares if share.speaks == speaks]
        shown = [share.sweeper for share in of]
        lines.append(
            f"| {of[0].flows} | {'each speaks once a second' if speaks else 'idle'}"
            f" | {median(share.segments for share in of):.0f}"
            f" | {median(shown):.2f} % | {min(shown):.2f}-{max(shown):.2f} % |"
        )
    return "\n".join(lines)
