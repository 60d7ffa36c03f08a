"""Measures mailweir beside HAProxy and nginx, in one run, in front of the same two sinks.

    python3 benches/peers/run.py --rounds 5 --json figures.json

The method is in the README.md next to this file.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benches.peers.cases import CASES, Case  # noqa: E402
from benches.peers.load import run_source, sink  # noqa: E402
from benches.peers.machine import heading  # noqa: E402
from benches.peers.measure import machine_cpu_ns, tree_cpu_ns  # noqa: E402
from benches.peers.peers import DIRECT, LAUNCHERS, Site  # noqa: E402
from benches.peers.processes import (  # noqa: E402
    Process,
    free_port,
    on_core,
    running,
    wait_for_greeting,
)
from benches.peers.report import Sample, markdown  # noqa: E402

_WARM_UP_SHARE = 20


@dataclass(frozen=True)
class Cores:
    """Where balancers run, and where source and sink do; anywhere where that is None."""

    balancers: int | None
    ends: int | None


@dataclass(frozen=True)
class Peer:
    """A balancer that runs, or the sink itself."""

    name: str
    address: str
    process: Process | None

    def cpu_ns(self) -> int:
        """CPU time it has spent so far."""
        return tree_cpu_ns(self.process.pid) if self.process else 0


def main() -> int:
    """Parses, measures, prints."""
    options = _options()
    # A way out through the context managers, which end the child processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    mailweir = options.mailweir or str(ROOT / ".venv/bin/mailweir")
    if "mailweir" in options.peers and not shutil.which(mailweir):
        print(
            f"no mailweir at {mailweir}: give --mailweir, or leave it out of --peers",
            file=sys.stderr,
        )
        return 2
    smtpload = options.smtpload or _build_smtpload()
    samples = _measure(options, smtpload, mailweir)
    head = heading(options.peers, mailweir, options.rounds, options.workers, options.pin)
    print(markdown(head, samples))
    if options.json:
        figures = {"heading": head, "samples": [asdict(sample) for sample in samples]}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if any(sample.load.failed for sample in samples) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="runs of each case and peer")
    parser.add_argument(
        "--cases", type=_names_of(CASES), default=list(CASES), help="some of " + ",".join(CASES)
    )
    known = [DIRECT, *LAUNCHERS]
    parser.add_argument(
        "--peers", type=_names_of(known), default=known, help="some of " + ",".join(known)
    )
    parser.add_argument("--workers", type=int, default=2, help="threads or processes of each peer")
    parser.add_argument(
        "--pin", action="store_true", help="balancers on one core, source and sink on another"
    )
    parser.add_argument("--json", type=Path, help="write all samples to this file too")
    parser.add_argument("--mailweir", help="the command (default: the one in .venv)")
    parser.add_argument("--smtpload", help="the program (default: built by cargo)")
    return parser.parse_args()


def _names_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = set(names).difference(known)
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
        return names

    return parse


def _build_smtpload() -> str:
    argv = ["cargo", "build", "--quiet", "--release", "--package=mailweir-testkit"]
    subprocess.run(argv, cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return str(target / "release/smtpload")


def _measure(options: argparse.Namespace, smtpload: str, mailweir: str) -> list[Sample]:
    samples = []
    cores = Cores(0, 1) if options.pin else Cores(None, None)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peers-")))
        servers = stack.enter_context(sink(smtpload, directory, cores.ends))
        start = _Start(directory, servers, options.workers, mailweir, cores.balancers)
        peers = [start.peer(name, stack) for name in options.peers]
        cases = [CASES[name] for name in options.cases]
        for case in cases:
            for peer in peers:
                warm_up = case.arguments(case.sessions // _WARM_UP_SHARE)
                run_source(smtpload, peer.address, warm_up, cores.ends)
        for round_number in range(options.rounds):
            # Another one first each time, so that no peer always follows the same one.
            shift = round_number % len(peers)
            for case in cases:
                for peer in peers[shift:] + peers[:shift]:
                    samples.append(_run(smtpload, case, peer, round_number, cores.ends))
            print(f"round {round_number + 1} of {options.rounds} done", file=sys.stderr)
    order = {name: position for position, name in enumerate(options.peers)}
    return sorted(samples, key=lambda sample: order[sample.peer])


@dataclass(frozen=True)
class _Start:
    """What all balancers are started with."""

    directory: Path
    servers: tuple[str, str]
    workers: int
    mailweir: str
    core: int | None

    def peer(self, name: str, stack: ExitStack) -> Peer:
        """A balancer that takes sessions, until the stack is left."""
        if name == DIRECT:
            return Peer(name, self.servers[0], None)
        own = self.directory / name
        own.mkdir()
        site = Site(
            own, "127.0.0.1", free_port(), free_port(), self.servers, self.workers, self.mailweir
        )
        log = own / "errors.log"
        process = stack.enter_context(running(on_core(self.core, LAUNCHERS[name](site)), log))
        wait_for_greeting(site.port, process, log)
        return Peer(name, f"127.0.0.1:{site.port}", process)


def _run(smtpload: str, case: Case, peer: Peer, round_number: int, core: int | None) -> Sample:
    balancer, machine = peer.cpu_ns(), machine_cpu_ns()
    load = run_source(smtpload, peer.address, case.arguments(), core)
    balancer, machine = peer.cpu_ns() - balancer, machine_cpu_ns() - machine
    sessions = 1000 * case.sessions  # and from ns to us
    return Sample(case.name, peer.name, round_number, balancer / sessions, machine / sessions, load)


if __name__ == "__main__":
    sys.exit(main())
