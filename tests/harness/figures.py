"""What many runs of one thing took: how a test judges it, and what it tells of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Took:
    """Seconds, one for each run."""

    seconds: Sequence[float]

    def percentile(self, part: float) -> float:
        """The least that so great a part of all runs didn't exceed."""
        return sorted(self.seconds)[max(math.ceil(part * len(self.seconds)) - 1, 0)]

    def __str__(self) -> str:
        p50, p99 = self.percentile(0.5), self.percentile(0.99)
        worst, runs = max(self.seconds), len(self.seconds)
        return f"p50 {p50:.3f} s, p99 {p99:.3f} s, max {worst:.3f} s of {runs} runs"
