"""Measures what checks of many servers cost.

    .venv/bin/python benches/checks/run.py --servers 2000 --every 5

All on this machine. The method is in the README.md next to this file.
"""

import argparse
import json
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from harness.clients.smtpload import Sink, Smtpload, build  # noqa: E402
from harness.machine.proc import own_memory  # noqa: E402
from harness.mailweir.run import Mailweir, Tree, configuration, mailweir  # noqa: E402
from harness.process import Running, running  # noqa: E402
from harness.waiting import until  # noqa: E402

_HERE = Path(__file__).parent
_POOLS = 10
_JITTER = 0.2  # of the interval; what mailweir varies it by
_LIMIT = 120.0  # seconds for anything
_KINDS = ("none", "tcp", "ehlo")


@dataclass(frozen=True)
class Figures:
    """Of one kind of check, in one round. Seconds, but for `cpu` and `main`: shares of a core."""

    checks: int  # that servers saw
    seconds: float
    cpu: float
    main: float  # the main thread's part of it, which is Python's
    latest: float
    memory: int  # of its own, in bytes
    peak: int
    p99: float  # of forwarded sessions, in milliseconds
    failed: int  # of these

    @property
    def each(self) -> float:
        """CPU for one check, in microseconds."""
        return self.cpu * self.seconds / self.checks * 1e6 if self.checks else 0.0


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--servers", type=int, default=2000)
    parser.add_argument("--every", type=int, default=5, help="seconds")
    parser.add_argument("--seconds", type=float, default=20, help="that CPU is measured for")
    parser.add_argument("--rounds", type=int, default=5, help="of each kind, in turn")
    parser.add_argument("--rate", type=int, default=100, help="forwarded sessions a second")
    parser.add_argument("--kinds", default=",".join(_KINDS), help="none: servers have no checks")
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    found: dict[str, list[Figures]] = {kind: [] for kind in kinds}
    for number in range(options.rounds):
        for kind in kinds if number % 2 == 0 else reversed(kinds):
            found[kind].append(_measured(kind, options))
    print(
        f"{options.servers} servers every {options.every} s, {options.rounds} rounds of"
        f" {options.seconds:.0f} s, medians:\n"
    )
    _print(found)


def _measured(kind: str, options: argparse.Namespace) -> Figures:
    with tempfile.TemporaryDirectory() as name, ExitStack() as exits:
        folder = Path(name)
        load = Smtpload(build(), folder)
        sink = exits.enter_context(load.sink("sink"))
        servers = exits.enter_context(_servers(folder))
        port = int(servers.until(lambda: servers.out.partition("\n")[0], "the servers"))
        config = _farm(folder, sink, kind, port, options)
        balancer = exits.enter_context(mailweir(folder, config))
        until(lambda: _all_up(balancer), "every server to be up", limit=_LIMIT)
        time.sleep(2 * options.every)  # all are spread by then
        servers.send(signal.SIGUSR1)
        began, cpu, main = time.monotonic(), _cpu_ns(balancer.pid), _main_ns(balancer.pid)
        time.sleep(options.seconds)
        seconds = time.monotonic() - began
        cpu, main = _cpu_ns(balancer.pid) - cpu, _main_ns(balancer.pid) - main
        servers.send(signal.SIGUSR2)
        memory, peak = own_memory(balancer.pid), _peak(balancer.pid)
        p99, failed = _sent(load, balancer, options.rate)
        servers.stop()
        counted = json.loads(servers.out.splitlines()[-1])
    return Figures(
        checks=counted["sessions"],
        seconds=seconds,
        cpu=cpu / seconds / 1e9,
        main=main / seconds / 1e9,
        latest=max(counted["waits"], default=0.0) - options.every * (1 + _JITTER),
        memory=memory,
        peak=peak,
        p99=p99,
        failed=failed,
    )


@contextmanager
def _servers(folder: Path) -> Iterator[Running]:
    with running([sys.executable, str(_HERE / "servers.py")], folder, "servers") as process:
        yield process


def _farm(folder: Path, sink: Sink, kind: str, port: int, options: argparse.Namespace) -> Tree:
    """A pool that forwards, and many that are checked."""
    config = configuration(folder, {"sink": sink.addresses[0]}, check={"every": "1h"})
    config |= {"workers": 2, "forwarding": "relay"}
    each = options.servers // _POOLS if kind != "none" else 0
    for pool in range(_POOLS if each else 0):
        servers = {
            f"server{n}": {
                "address": f"127.{pool + 1}.{n // 250}.{n % 250 + 1}:{port}",
                "proxy": "off",
            }
            for n in range(each)
        }
        check = {"kind": kind, "every": f"{options.every}s"}
        config["pools"][f"pool{pool}"] = {"servers": servers, "check": check}
        config["listeners"][f"listener{pool}"] = {"bind": ["127.0.0.1:0"], "pool": f"pool{pool}"}
    return config


def _all_up(balancer: Mailweir) -> bool:
    return all(pool["up"] == pool["servers"] for pool in balancer.status()["pools"])


def _sent(load: Smtpload, balancer: Mailweir, rate: int) -> tuple[float, int]:
    """The 99th percentile of sessions, in milliseconds; how many failed."""
    how = (f"--rate={rate}", "--concurrency=200", "--duration=10s")
    with load.source("source", balancer.address(), *how) as source:
        sent = source.sent(_LIMIT)
    return sent.session_p99_ms, sent.failed


def _cpu_ns(pid: int) -> int:
    return sum(int((task / "schedstat").read_text().split()[0]) for task in _threads(pid))


def _threads(pid: int) -> Sequence[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


def _main_ns(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0])


def _peak(pid: int) -> int:
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) * 1024


def _print(found: dict[str, list[Figures]]) -> None:
    print(
        "| checks | a second | CPU of a core | its main thread | us a check | latest | memory"
        " | peak | p99 of a forwarded session | failed |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for kind, rounds in found.items():
        cells = [
            _cell([one.checks / one.seconds for one in rounds], "{:.0f}"),
            _cell([one.cpu * 100 for one in rounds], "{:.1f}", " %"),
            _cell([one.main * 100 for one in rounds], "{:.1f}", " %"),
            _cell([one.each for one in rounds], "{:.0f}"),
            _cell([max(one.latest, 0) * 1000 for one in rounds], "{:.0f}", " ms"),
            f"{max(one.memory for one in rounds) >> 20} MiB",
            f"{max(one.peak for one in rounds) >> 20} MiB",
            _cell([one.p99 for one in rounds], "{:.1f}", " ms"),
            f"{sum(one.failed for one in rounds)}",
        ]
        print(f"| {kind} | {' | '.join(cells)} |")


def _cell(values: Sequence[float], form: str, unit: str = "") -> str:
    """The median, and the range."""
    low, high = form.format(min(values)), form.format(max(values))
    return f"{form.format(statistics.median(values))}{unit} ({low}-{high})"


if __name__ == "__main__":
    os.environ.setdefault("MAILWEIR_TEST_LIMIT", "120")
    main()
