"""Measures how sessions in the kernel stand loss and delay, beside those that are only routed.

    .venv/bin/python benches/peers/far.py --rounds 2

What is lost on either leg is made good by the two ends alone, so both peers should take as long.
With a far client a server behind mailweir sends a segment or two again for nothing: it measured
its first round trip with the balancer, and learns of the far one by its first segments.

Needs root, iproute2, nftables and clang. The networks are those of the tests, in tests/harness.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests"))

from benches.peers.machine import heading  # noqa: E402

from harness.clients.dialogue import refused  # noqa: E402
from harness.clients.smtpload import Smtpload, build  # noqa: E402
from harness.mailweir.kernel_rig import PORT, kernel_rig, rig_configuration  # noqa: E402
from harness.mailweir.run import Mailweir  # noqa: E402
from harness.networks.row import LISTENER, SERVER, Row, row  # noqa: E402
from harness.networks.slow_path import Way, slow_path  # noqa: E402
from harness.process import run  # noqa: E402
from harness.waiting import LIMIT, until  # noqa: E402

ROUTER, KERNEL = "routed", "mailweir-kernel"
_LIMIT = 240.0  # seconds for one run
_NEAR, _FAR = 0, 300
_NOBODY = 9  # a port


@dataclass(frozen=True)
class Setting:
    """The round trip in milliseconds, and what neither end gets, in per cent."""

    round_trip: int
    loss: int


@dataclass(frozen=True)
class Figure:
    """One run: times of a session in milliseconds, segments sent again for each."""

    setting: Setting
    peer: str
    median: float
    p99: float
    again: float
    failed: int


SETTINGS = [Setting(far, loss) for far in (_NEAR, _FAR) for loss in (0, 1, 5)]


def main() -> int:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sessions", type=int, default=200, help="in each run")
    parser.add_argument("--rate", type=int, default=200, help="of sessions that begin, a second")
    parser.add_argument("--messages", type=int, default=2, help="in each session")
    parser.add_argument("--size", default="32k", help="of a message")
    options = parser.parse_args()
    smtpload = build()
    figures: list[Figure] = []
    for number in range(options.rounds):
        for setting in SETTINGS:
            # Neither is always the first.
            for peer in (ROUTER, KERNEL) if number % 2 else (KERNEL, ROUTER):
                figures.append(_run(smtpload, setting, peer, options))
        print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)
    load = f"{options.sessions} sessions of {options.messages} x {options.size} bytes"
    facts = heading([], "", options.rounds, 0)
    for key in ("date", "machine", "commit"):
        print(f"- {key}: {facts[key]}")
    print(f"- method: {options.rounds} rounds, medians of them; {load}, {options.rate}/s\n")
    _print(figures)
    return 1 if any(figure.failed for figure in figures) else 0


def _run(smtpload: Path, setting: Setting, peer: str, options: argparse.Namespace) -> Figure:
    """In networks of its own, so that no run learns of another's round trips."""
    with ExitStack() as exits:
        directory = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="far-")))
        networks = exits.enter_context(row("bench"))
        if setting.round_trip:
            way = Way(delay=setting.round_trip / 2000)
            exits.enter_context(slow_path(networks, "c", way))
        sink = Smtpload(smtpload, directory, networks.before("s"))
        exits.enter_context(sink.sink("sink", listen=(f"{SERVER}:{PORT}",)))
        balancer = exits.enter_context(_peer(networks, peer, directory))
        host = LISTENER if balancer else SERVER
        # Who is where is asked by nobody afterwards.
        assert networks.inside("c", partial(refused, (host, _NOBODY))).result(LIMIT)
        if setting.loss:
            networks.lose(setting.loss)
        before = _sent_again(networks)
        report = _load(networks, smtpload, host, options)
        again = _sent_again(networks) - before
        if balancer:
            _all_in_the_kernel(balancer, options.sessions)
    times = report["times_us"]["session"]
    return Figure(
        setting,
        peer,
        times["p50"] / 1000,
        times["p99"] / 1000,
        again / options.sessions,
        report["sessions"]["failed"],
    )


@contextmanager
def _peer(networks: Row, peer: str, directory: Path) -> Iterator[Mailweir | None]:
    """What is between the networks: mailweir, or nothing but a router."""
    if peer == KERNEL:
        config = rig_configuration(directory)
        # As patient as a client, where several SYNs are lost; there is no other server to try.
        config["listeners"]["mx"]["timeouts"] = {"connect": "30s"}
        with kernel_rig(networks, directory, config) as rig:
            yield rig.balancer
        return
    networks.route()
    yield None


def _load(networks: Row, smtpload: Path, host: str, options: argparse.Namespace) -> dict[str, Any]:
    """What the clients saw."""
    source = [str(smtpload), "--json", "source", f"--connect={host}:{PORT}", "--timeout=120s"]
    arguments = [
        f"--sessions={options.sessions}",
        f"--concurrency={options.sessions}",
        f"--rate={options.rate}",
        f"--messages={options.messages}",
        f"--size={options.size}",
    ]
    done = run([*networks.before("c"), *source, *arguments], limit=_LIMIT)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"smtpload ended with {done.returncode}: {done.stderr}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _sent_again(networks: Row) -> int:
    """Segments so far, from all three: the balancer's host begins a session with each end."""
    total = 0
    for network in "cls":
        names, values = [
            line.split()
            for line in networks.run(network, "cat", "/proc/net/snmp").splitlines()
            if line.startswith("Tcp:")
        ]
        total += int(values[names.index("RetransSegs")])
    return total


def _all_in_the_kernel(balancer: Mailweir, sessions: int) -> None:
    """Else the figures are of something else; those that failed are counted as such."""
    until(lambda: len(balancer.session_log()) >= sessions, "all sessions to be in the log")
    log = balancer.session_log()
    paths = {line["path"] for line in log if line["end_reason"] == "client_quit"}
    if paths != {"kernel"}:
        raise RuntimeError(f"sessions took the paths {paths}")


def _print(figures: list[Figure]) -> None:
    print(
        "| RTT | lost | peer | median ms | p99 ms | sent again/session | median / routed | failed |"
    )
    print("|---:|---:|---|---:|---:|---:|---:|---:|")
    for setting in SETTINGS:
        of_setting = [figure for figure in figures if figure.setting == setting]
        routed = median(figure.median for figure in of_setting if figure.peer == ROUTER)
        for peer in (ROUTER, KERNEL):
            runs = [figure for figure in of_setting if figure.peer == peer]
            middle = median(figure.median for figure in runs)
            print(
                f"| {setting.round_trip or '< 1'} ms | {setting.loss} % | {peer} | {middle:.1f}"
                f" | {median(figure.p99 for figure in runs):.1f}"
                f" | {median(figure.again for figure in runs):.2f}"
                f" | {middle / routed:.2f} | {sum(figure.failed for figure in runs)} |"
            )


if __name__ == "__main__":
    sys.exit(main())
