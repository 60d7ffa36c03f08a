"""Turns samples into Markdown: medians, spreads and ratios per case and peer."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from benches.peers.cases import CASES
from benches.peers.load import Load
from benches.peers.peers import DIRECT

_COLUMNS = (
    "peer",
    "CPU us/session",
    "min-max",
    "/ haproxy",
    "/ nginx",
    "machine us/session",
    "above direct",
    "sessions/s",
    "MB/s",
    "session p50, p99 ms",
    "round trip p50, p99 us",
    "failed",
)


@dataclass(frozen=True)
class Sample:
    """One run of one case through one peer."""

    case: str
    peer: str
    round: int
    balancer_us: float
    machine_us: float
    load: Load


def markdown(heading: dict[str, str], samples: list[Sample]) -> str:
    """The whole report."""
    parts = ["# mailweir beside its peers", ""]
    parts += [f"- {key}: {value}" for key, value in heading.items()]
    for case in _in_order(sample.case for sample in samples):
        parts += ["", f"## {case}: {CASES[case].describe()}", ""]
        parts += _table([sample for sample in samples if sample.case == case])
    return "\n".join(parts)


def _table(samples: list[Sample]) -> list[str]:
    lines = [_row(_COLUMNS), _row(["---"] + ["---:"] * (len(_COLUMNS) - 1))]
    by_peer = {
        peer: sorted((s for s in samples if s.peer == peer), key=lambda s: s.round)
        for peer in _in_order(sample.peer for sample in samples)
    }
    return lines + [_row(_cells(peer, by_peer)) for peer in by_peer]


def _cells(peer: str, by_peer: dict[str, list[Sample]]) -> list[str]:
    own = by_peer[peer]
    balancer = [sample.balancer_us for sample in own]

    def middle(figure: Callable[[Load], float], unit: float = 1) -> float:
        return median(figure(sample.load) for sample in own) / unit

    is_direct = peer == DIRECT
    return [
        peer,
        "-" if is_direct else f"{median(balancer):.1f}",
        "-" if is_direct else f"{min(balancer):.1f}-{max(balancer):.1f}",
        _ratio(own, by_peer.get("haproxy")),
        _ratio(own, by_peer.get("nginx")),
        f"{median(sample.machine_us for sample in own):.1f}",
        _above(own, by_peer.get(DIRECT)),
        f"{middle(lambda load: load.sessions_per_second):.0f}",
        f"{middle(lambda load: load.bytes_per_second, 1e6):.1f}",
        f"{middle(lambda load: load.session_p50, 1e3):.2f}, "
        f"{middle(lambda load: load.session_p99, 1e3):.2f}",
        f"{middle(lambda load: load.round_trip_p50):.0f}, "
        f"{middle(lambda load: load.round_trip_p99):.0f}",
        str(sum(sample.load.failed for sample in own)),
    ]


def _ratio(own: list[Sample], other: list[Sample] | None) -> str:
    """The median over the rounds: two runs of one round share the machine's mood."""
    if not other or own[0].peer == DIRECT:
        return "-"
    pairs = zip(own, other, strict=True)
    return f"{median(mine.balancer_us / theirs.balancer_us for mine, theirs in pairs):.2f}"


def _above(own: list[Sample], direct: list[Sample] | None) -> str:
    if not direct or own[0].peer == DIRECT:
        return "-"
    pairs = zip(own, direct, strict=True)
    return f"{median(mine.machine_us - theirs.machine_us for mine, theirs in pairs):.1f}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
