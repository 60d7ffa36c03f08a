"""How fast counters rise, from one look at them to the next. Pure; used by `page`.

Nothing is read for it that isn't looked at anyway: where nobody looks, it costs nothing, and the
first look after a while knows no rates.
"""

from collections import deque

# Seconds: a rate is that of the last minute, or of as much of it as was looked at.
_LONGEST = 60.0
# From a shorter time no rate is told.
_SHORTEST = 4.0
# Looks that come sooner after another one aren't kept: many may look at once, and with thousands of
# servers each takes some MB.
_APART = 15.0

_Totals = dict[tuple[str, ...], int]


class Rates:
    """The looks of the last minute."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, _Totals]] = deque()

    def look(self, moment: float) -> "Rising":
        """A look that begins; `moment` is in seconds, on a clock that nobody sets."""
        while self._looks and moment - self._looks[0][0] > _LONGEST:
            self._looks.popleft()
        totals: _Totals = {}
        before = self._looks[0] if self._looks else (moment, {})
        if not self._looks or moment - self._looks[-1][0] >= _APART:
            self._looks.append((moment, totals))
        return Rising(before[1], moment - before[0], totals)


class Rising:
    """One look: it is told totals, and says how fast each rises."""

    def __init__(self, before: _Totals, took: float, totals: _Totals) -> None:
        self._before = before
        self._took = took
        self._totals = totals

    def __call__(self, *what: str, total: int) -> float | None:
        """A second, since the oldest look; None where that is too short ago, or didn't know it."""
        self._totals[what] = total
        if self._took < _SHORTEST or what not in self._before:
            return None
        return (total - self._before[what]) / self._took
