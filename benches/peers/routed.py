"""Measures the kernel path beside what a router, nft and the other balancers cost.

    python3 benches/peers/routed.py --rounds 5

Three networks on one machine, clients, balancer and servers in one each; CPU is that of the whole
machine, and what plain routing of the same sessions takes in the same round is taken off. Needs
root, and iproute2, nftables, nginx and haproxy. The method is in the README.md next to this file.
"""

import argparse
import json
import operator
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benches.peers.cases import CASES, Case  # noqa: E402
from benches.peers.machine import heading  # noqa: E402
from benches.peers.measure import machine_cpu_ns  # noqa: E402
from benches.peers.networks import LISTENER, SERVER, Networks, networks  # noqa: E402
from benches.peers.peers import ROUTED, Site  # noqa: E402
from benches.peers.processes import running  # noqa: E402

PORT = 2525
ROUTER, NAT = "routed", "nft-dnat"
_SERVERS = (f"{SERVER}:{PORT}", f"{SERVER}:{PORT + 1}")
_READY_LIMIT = 20.0
_WARM_UP_SHARE = 20
_CASES = ("1k", "20x1k", "8m")


@dataclass(frozen=True)
class Figure:
    """One run: CPU of the machine in microseconds a session."""

    case: str
    peer: str
    cpu_us: float
    failed: int


def main() -> int:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", default=",".join([ROUTER, NAT, *ROUTED]))
    parser.add_argument("--cases", default=",".join(_CASES))
    parser.add_argument("--part", type=int, default=1, help="one of so many parts of each case")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--mailweir", default=str(ROOT / ".venv/bin/mailweir"))
    parser.add_argument("--smtpload", default=str(ROOT / "target/release/smtpload"))
    options = parser.parse_args()
    if not os.path.ismount("/sys/fs/bpf"):
        subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], check=False)
    figures: list[Figure] = []
    with (
        tempfile.TemporaryDirectory(prefix="routed-") as directory,
        networks(f"bench-{os.getpid()}") as made,
        _sink(made, options.smtpload, Path(directory)),
    ):
        for number in range(options.rounds):
            peers = options.peers.split(",")
            for peer in peers if number % 2 == 0 else reversed(peers):
                with _peer(made, peer, options, Path(directory)) as address:
                    for name in options.cases.split(","):
                        case = CASES[name]
                        _load(made, options.smtpload, address, case, _WARM_UP_SHARE * options.part)
                        figures.append(_run(made, options, address, case, peer))
            print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)
    peers = [peer for peer in options.peers.split(",") if peer in ROUTED]
    head = heading(peers, options.mailweir, options.rounds, options.workers)
    head["method"] = (
        f"{options.rounds} rounds between three networks, the peers in turn within each round, in"
        f" the other order in every second one, {options.workers} workers each; medians of all CPU"
        " time of the machine, and of what it is above that of plain routing in the same round"
    )
    for key, value in head.items():
        print(f"- {key}: {value}")
    _print(figures)
    return 1 if any(figure.failed for figure in figures) else 0


@contextmanager
def _sink(made: Networks, smtpload: str, directory: Path) -> Iterator[None]:
    listen = [f"--listen={address}" for address in _SERVERS]
    argv = [*made.inside("servers"), smtpload, "sink", *listen]
    with running(argv, directory / "sink.log") as process:
        assert process.stdout  # a pipe, by the contract of `running`
        process.stdout.readline()
        yield


@contextmanager
def _peer(made: Networks, name: str, options: argparse.Namespace, directory: Path) -> Iterator[str]:
    """What is between clients and servers; where clients connect to."""
    if name == ROUTER:
        yield _SERVERS[0]
    elif name == NAT:
        rule = f"ip daddr {LISTENER} tcp dport {PORT} dnat to {SERVER}"
        chain = f"type nat hook prerouting priority -100;\n {rule}"
        made.run("balancer", "nft", f"table ip bench {{\n chain pre {{\n {chain}\n }}\n}}")
        try:
            yield f"{LISTENER}:{PORT}"
        finally:
            made.run("balancer", "nft", "delete table ip bench")
    else:
        own = directory / f"{name}-{time.monotonic_ns()}"
        own.mkdir()
        site = Site(own, LISTENER, PORT, 8899, _SERVERS, options.workers, options.mailweir)
        argv = [*made.inside("balancer"), *ROUTED[name](site)]
        log = own / "errors.log"
        with running(argv, log):
            _wait_for_greeting(made, options.smtpload, log)
            yield f"{LISTENER}:{PORT}"


def _wait_for_greeting(made: Networks, smtpload: str, log: Path) -> None:
    deadline = time.monotonic() + _READY_LIMIT
    one = Case("one", sessions=1, messages=1, size="1k", concurrency=1)
    while _load(made, smtpload, f"{LISTENER}:{PORT}", one, 1):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the peer passes no session:\n{log.read_text()}")
        time.sleep(0.1)


def _run(
    made: Networks, options: argparse.Namespace, address: str, case: Case, peer: str
) -> Figure:
    before = machine_cpu_ns()
    failed = _load(made, options.smtpload, address, case, options.part)
    cpu = machine_cpu_ns() - before
    return Figure(case.name, peer, cpu / 1000 / _share(case, options.part), failed)


def _load(made: Networks, smtpload: str, address: str, case: Case, share: int) -> int:
    """Runs a share of a case; how many sessions failed."""
    arguments = case.arguments(_share(case, share))
    source = [smtpload, "--json", "source", f"--connect={address}", *arguments]
    argv = [*made.inside("clients"), *source]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    return int(json.loads(done.stdout)["sessions"]["failed"]) if done.stdout else 1


def _share(case: Case, share: int) -> int:
    """How many sessions one of so many parts has."""
    return max(1, case.sessions // share)


def _print(figures: list[Figure]) -> None:
    for case in dict.fromkeys(figure.case for figure in figures):
        of_case = [figure for figure in figures if figure.case == case]
        by_peer = {
            peer: [figure.cpu_us for figure in of_case if figure.peer == peer]
            for peer in dict.fromkeys(figure.peer for figure in of_case)
        }
        above = {
            peer: median(map(operator.sub, values, by_peer.get(ROUTER, repeat(0.0))))
            for peer, values in by_peer.items()
        }
        others = [above[peer] for peer in ("nginx", "haproxy", "haproxy-splice") if peer in above]
        # Of a part of a case nothing may be above routing.
        better = min(others, default=0.0) or float("nan")
        print(f"\n## {case}: {CASES[case].describe()}\n")
        print("| peer | CPU us/session | min-max | above routing | / better of haproxy, nginx |")
        print("|---|---:|---:|---:|---:|")
        for peer, values in by_peer.items():
            print(
                f"| {peer} | {median(values):.1f} | {min(values):.1f}-{max(values):.1f}"
                f" | {above[peer]:.1f} | {above[peer] / better:.2f} |"
            )
        print(f"\nfailed sessions: {sum(figure.failed for figure in of_case)}")


if __name__ == "__main__":
    sys.exit(main())
