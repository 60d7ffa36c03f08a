"""What is computed from counts: pure. Used by `farm`, `slow` and `slow_start`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """A session on a server, from its connection to its end."""

    began: float
    ended: float


@dataclass(frozen=True)
class Second:
    """One second of a server's life: sessions that began in it, those open at its end, and which
    part of the whole farm's new sessions these were.
    """

    at: int
    new: int
    open: int
    share: float


def percentile(values: Sequence[float], part: float) -> float:
    """The least value that so great a part of all doesn't exceed; 0 of none."""
    if not values:
        return 0.0
    return sorted(values)[max(math.ceil(part * len(values)) - 1, 0)]


def seconds(own: Sequence[Span], others: Sequence[Span], zero: float, last: int) -> list[Second]:
    """A server's seconds from `zero` on, which is a moment."""
    found = []
    for at in range(last):
        begin, end = zero + at, zero + at + 1
        new = sum(begin <= one.began < end for one in own)
        all_new = new + sum(begin <= one.began < end for one in others)
        is_open = sum(one.began < end <= one.ended for one in own)
        found.append(Second(at, new, is_open, new / all_new if all_new else 0.0))
    return found


def straight(at: float, ramp: float, servers: int) -> float:
    """The share of all sessions where it rises evenly to a whole one."""
    return min(at / ramp, 1.0) / servers if ramp else 1 / servers


def by_weight(at: float, ramp: float, servers: int) -> float:
    """The share of all sessions where the weight rises evenly, and the others keep theirs."""
    weight = min(at / ramp, 1.0) if ramp else 1.0
    return weight / (servers - 1 + weight)
