"""Where the processor time of a session goes, by system call, from its accept to its record."""

import re
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benches.flows.site import Site, around
from benches.peers.measure import tree_cpu_ns

from harness.process import running
from harness.servers.packets import Flood
from harness.waiting import until

_MOST_FLOWS = 65_536
_CLIENTS = 200
_SAMPLES = 3000  # a second
_SHOWN = 0.3  # microseconds a session
_CALL = "__x64_sys_"
_PROGRAM = "outside of any"


@dataclass(frozen=True)
class Calls:
    """Of one run: microseconds a session, and samples by thread and system call."""

    sessions: int
    micros: float
    samples: Counter[tuple[str, str]]


def measured(sessions: int, rate: int) -> Calls:
    """Sampled by the clock, so that no call is slowed down; a first load isn't."""
    with around(_MOST_FLOWS) as place, place.balancer() as site:
        _load(site, Flood(f"10.9.0.1/{_CLIENTS}", sessions, rate))
        file = place.directory / "perf.data"
        sampled = ["perf", "record", "--event=cpu-clock", f"--freq={_SAMPLES}", "-g"]
        with running(
            [*sampled, f"--pid={site.pid}", f"--output={file}"], place.directory, "perf"
        ) as perf:
            until(file.exists, "perf to begin")
            spent = tree_cpu_ns(site.pid)
            _load(site, Flood(f"10.9.1.1/{_CLIENTS}", sessions, rate))
            spent = tree_cpu_ns(site.pid) - spent
            perf.send(signal.SIGINT)
            perf.wait()
        return Calls(sessions, spent / sessions / 1000, _by_call(file))


def _load(site: Site, flood: Flood) -> None:
    with site.packets.clients(flood) as clients:
        report = clients.report()
    assert report["done"] == flood.sessions, report
    site.until_flows(0, limit=20)


def _by_call(file: Path) -> Counter[tuple[str, str]]:
    script = ["perf", "script", f"--input={file}", "--fields=comm,ip,sym"]
    said = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    samples: Counter[tuple[str, str]] = Counter()
    for sample in said.split("\n\n"):
        # The innermost first.
        thread, *stack = sample.strip().splitlines() or [""]
        calls = [line.partition(_CALL)[2] for line in stack if _CALL in line]
        # Workers are alike.
        name = re.sub(r"w\d+$", "workers", thread.strip().removeprefix("mailweir-"))
        samples[name, calls[-1] if calls else _PROGRAM] += 1
    return samples


def table(calls: Calls) -> str:
    """The dearest first."""
    whole = calls.samples.total()
    lines = [
        f"{calls.sessions} sessions, {calls.micros:.1f} us of the balancer's process each"
        f" ({whole} samples)",
        "",
        "| thread | system call | us/session | share |",
        "|---|---|---:|---:|",
    ]
    for (thread, call), samples in calls.samples.most_common():
        micros = calls.micros * samples / whole
        if micros >= _SHOWN:
            lines.append(f"| {thread} | {call} | {micros:.1f} | {100 * samples / whole:.1f} % |")
    return "\n".join(lines)
