"""Tells everybody on the network where the floating addresses are now. Called by `ha.agent`.

What isn't heard once is said again: switches and neighbours that missed it would send to the node
of before for as long as they remember (hours, some of them).
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from random import Random

from mailweir.config.ha import Floating
from mailweir.ha.kernel.frames import announcements
from mailweir.ha.kernel.tap import Tap

# Seconds after a burst begins, and then from one to the next.
# Linux doesn't believe another one for a second after it has believed one (arp(7), locktime).
_TIMES = (0.0, 0.1, 0.3, 1.0, 1.3, 2.0, 3.0)
_EVERY, _JITTER = 30.0, 0.1


class Announcer:
    """Says so while it is true; the caller stops it before the addresses go.

    StartError where this process may not speak so.
    """

    def __init__(self, floating: Sequence[Floating]) -> None:
        self._floating = tuple(floating)
        self._random = Random()  # noqa: S311 - spreads nodes' words, keeps no secret
        self._timer: asyncio.TimerHandle | None = None
        self._taps: dict[str, Tap] = {}
        for dev in {each.dev for each in floating}:
            with suppress(OSError):  # it may come yet
                self._taps[dev] = Tap(dev)

    def burst(self) -> None:
        """From the beginning: at once, soon again, and then every now and then."""
        self.stop()
        self._round(0)

    def stop(self) -> None:
        """Not a word more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """As `stop`, for good."""
        self.stop()
        for tap in self._taps.values():
            tap.close()
        self._taps.clear()

    def _round(self, number: int) -> None:
        for each in self._floating:
            with suppress(OSError):  # it is down or gone; there is another round
                self._say(each)
        following = number + 1
        if following < len(_TIMES):
            delay = _TIMES[following] - _TIMES[number]
        else:
            following = number
            delay = _EVERY * self._random.uniform(1 - _JITTER, 1 + _JITTER)
        self._timer = asyncio.get_running_loop().call_later(delay, self._round, following)

    def _say(self, each: Floating) -> None:
        tap = self._taps.get(each.dev) or self._taps.setdefault(each.dev, Tap(each.dev))
        mac = tap.mac()
        if mac is None:
            # It is gone; one that comes back under its name is another one.
            self._taps.pop(each.dev).close()
            return
        for frame in announcements(each.address.ip, mac):
            tap.send(frame)
