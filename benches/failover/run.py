"""Measures how long an address is out when a node dies, and when an operator switches.

    .venv/bin/python benches/failover/run.py --rounds 20

mailweir's pair beside keepalived with HAProxy. Needs root, iproute2, nftables, keepalived and
haproxy. The method is in the README.md next to this file.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benches.choosing.figures import percentile  # noqa: E402
from benches.failover.contender import FARM, Contender  # noqa: E402
from benches.failover.keepalived_pair import Keepalived  # noqa: E402
from benches.failover.mailweir_pair import Fast, Mailweir  # noqa: E402
from benches.failover.rounds import EVENTS, Bench, Sample  # noqa: E402
from benches.peers.machine import heading  # noqa: E402

from harness.mailweir.kernel_rig import polite  # noqa: E402
from harness.networks.pair import NODES, VIRTUAL, pair_networks  # noqa: E402
from harness.pair.holders import holders  # noqa: E402
from harness.pair.outage import RATE  # noqa: E402
from harness.servers.scripted import serving_in  # noqa: E402

CONTENDERS: dict[str, type[Contender]] = {
    "keepalived": Keepalived,
    "mailweir": Mailweir,
    "mailweir-fast": Fast,
}
_COLUMNS = (
    "pair",
    "event",
    "rounds",
    "gap p50",
    "p99",
    "max",
    "min",
    "out p50",
    "out max",
    "nobody p50",
    "dual max",
    "clients that failed",
    "rounds that failed",
)


@dataclass(frozen=True)
class Round:
    """One pair's, for an event."""

    pair: str
    event: str
    sample: Sample | None
    failure: str  # why there is no sample


def main() -> int:
    """Parses, measures, prints: what there is, where it is interrupted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="of each event")
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--events", default=",".join(EVENTS))
    parser.add_argument("--rate", type=float, default=RATE, help="of connections, a second")
    parser.add_argument("--json", type=Path, help="a file that each round is added to")
    options = parser.parse_args()
    rounds: list[Round] = []
    try:
        for name in options.contenders.split(","):
            for one in _rounds(name, options):
                rounds.append(one)
                _note(options.json, one)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    _print(options, rounds)
    return 1 if any(one.sample is None for one in rounds) else 0


def _rounds(name: str, options: argparse.Namespace) -> Iterator[Round]:
    """Those of one pair, in networks of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="failover-") as directory,
        pair_networks("failover") as pair,
        serving_in(pair, "srv", FARM, polite),
        holders(pair, VIRTUAL) as found,
    ):
        contender = CONTENDERS[name](pair, Path(directory))
        bench = Bench(pair, contender, found, Path(directory), options.rate)
        try:
            for _ in range(options.rounds):
                for event in options.events.split(","):
                    yield Round(name, event, *_tried(bench, event))
        finally:
            contender.programs.close()


def _tried(bench: Bench, event: str) -> tuple[Sample | None, str]:
    """A round, or why it failed; the next one begins from nothing then."""
    try:
        return bench.round(event), ""
    except AssertionError as error:
        bench.contender.programs.close()
        for node in NODES:
            bench.pair.revive(node)
        return None, str(error)


def _note(file: Path | None, one: Round) -> None:
    said = f"failed: {one.failure}"
    if one.sample:
        said = f"{one.sample.seen.gap:.3f} s, out {one.sample.seen.out:.3f} s"
    print(f"{one.pair} {one.event}: {said}", file=sys.stderr)
    if file:
        with file.open("a") as lines:
            lines.write(json.dumps(asdict(one)) + "\n")


def _row(pair: str, event: str, rounds: Sequence[Round]) -> str:
    samples = [one.sample for one in rounds if one.sample]
    gaps = [sample.seen.gap for sample in samples]
    outs = [sample.seen.out for sample in samples]
    reasons: Counter[str] = Counter()
    for sample in samples:
        reasons.update(sample.seen.failures)
    figures = [
        percentile(gaps, 0.5),
        percentile(gaps, 0.99),
        max(gaps, default=0.0),
        min(gaps, default=0.0),
        percentile(outs, 0.5),
        max(outs, default=0.0),
        percentile([sample.nobody for sample in samples], 0.5),
        max((sample.dual for sample in samples), default=0.0),
    ]
    cells = [pair, event, str(len(samples))]
    cells += [f"{figure:.2f}" if samples else "-" for figure in figures]
    cells.append(", ".join(f"{count} {reason}" for reason, count in reasons.items()))
    return f"| {' | '.join([*cells, str(len(rounds) - len(samples))])} |"


def _print(options: argparse.Namespace, rounds: Sequence[Round]) -> None:
    head = heading(["haproxy", "keepalived"], sys.executable, options.rounds, 0)
    head["method"] = (
        f"{options.rounds} rounds of each event, {options.rate:g} connections a second;"
        " seconds; gap: from the event to the first connection after which none failed;"
        " out: from the beginning of the first that failed to the same"
    )
    for key, value in head.items():
        print(f"- {key}: {value}")
    print(f"\n| {' | '.join(_COLUMNS)} |\n|{'---|' * 2}{'---:|' * (len(_COLUMNS) - 2)}")
    for pair, event in dict.fromkeys((one.pair, one.event) for one in rounds):
        of_event = [one for one in rounds if (one.pair, one.event) == (pair, event)]
        print(_row(pair, event, of_event))


if __name__ == "__main__":
    sys.exit(main())
