"""Measures the kernel path with tens and hundreds of thousands of flows at a time.

    .venv/bin/python benches/flows/run.py --parts cost,sweeper,steady,many

Clients and servers are packets alone (`packets` of rust/testkit). Needs root, iproute2, bpftool and
clang; the part `calls`, which runs where it is named, perf as well. The networks are those of the
tests. The method is in the README.md next to this file.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests"))

from benches.flows import calls, cost, many, steady, sweeper  # noqa: E402
from benches.peers.machine import heading  # noqa: E402

from harness.networks.row import pins, remove_pins  # noqa: E402


def main() -> int:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", default="cost,sweeper,steady,many")
    parser.add_argument("--levels", default="0,10000,60000", help="idle flows of `cost`")
    parser.add_argument("--rounds", type=int, default=30, help="of `cost`")
    parser.add_argument(
        "--load", type=int, default=1200, help="sessions in a run of `cost`; `calls`: x 10"
    )
    parser.add_argument("--load-rate", type=int, default=600, help="of these, a second")
    parser.add_argument("--speaking", type=int, default=60_000, help="flows of `sweeper`")
    parser.add_argument("--looks", type=int, default=3, help="at these")
    parser.add_argument("--look", type=float, default=60, help="at idle flows, in seconds")
    parser.add_argument("--rate", type=int, default=3000, help="of `steady`, a second")
    parser.add_argument("--seconds", type=int, default=60, help="of `steady`")
    parser.add_argument("--flows", type=int, default=200_000, help="of `many`")
    options = parser.parse_args()
    parts = _parts(options)
    facts = heading([], "", options.rounds, 0)
    for key in ("date", "machine", "commit"):
        print(f"- {key}: {facts[key]}")
    before = pins()
    for part in options.parts.split(","):
        try:
            print(f"\n## {part}\n\n{parts[part]()}", flush=True)
        finally:
            remove_pins(pins() - before)
    return 0


def _parts(options: argparse.Namespace) -> dict[str, Callable[[], str]]:
    """By name; each measures and makes a table of it."""
    levels = [int(level) for level in options.levels.split(",")]
    return {
        "cost": lambda: cost.table(
            cost.measured(levels, options.rounds, options.load, options.load_rate)
        ),
        "calls": lambda: calls.table(calls.measured(10 * options.load, options.load_rate)),
        "sweeper": lambda: sweeper.table(
            sweeper.measured(options.looks, options.speaking, options.look)
        ),
        "steady": lambda: steady.table(steady.measured(options.rate, options.seconds)),
        "many": lambda: many.table(many.measured(options.flows, options.look)),
    }


if __name__ == "__main__":
    sys.exit(main())
