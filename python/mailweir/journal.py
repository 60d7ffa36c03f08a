"""What happened lately and why: the last lines of the log, to be asked for and followed.

Fed by the log itself, so that neither says what the other doesn't. Bounded: who follows
too slowly is told how much it missed.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, MutableMapping
from threading import Lock
from typing import Any

# Some hours of a farm that is unwell, a week of one that isn't.
SIZE = 2000

# Its `id` rises by one; `ts`, `level` and `event` are those of the log, the rest its fields.
Event = dict[str, Any]


class Journal:
    """The events. Written by any thread, followed in event loops."""

    def __init__(self, size: int = SIZE, *, now: float | None = None) -> None:
        self._lock = Lock()
        self._events: deque[Event] = deque(maxlen=size)
        # Above those of an earlier process: who followed that goes on with this one.
        self._before_first = int((time.time() if now is None else now) * 1000)
        self._last = self._before_first
        self._followers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def take(
        self, _logger: object, _method: str, line: MutableMapping[str, object]
    ) -> MutableMapping[str, object]:
        """A structlog processor: keeps a line that isn't for debugging, and passes it on."""
        if line.get("level") == "debug":
            return line
        fields = {key: _plain(value) for key, value in line.items()}
        with self._lock:
            self._last += 1
            self._events.append({"id": self._last, **fields})
            followers = list(self._followers)
        for loop, news in followers:
            loop.call_soon_threadsafe(news.set)
        return line

    def since(self, after: int) -> list[Event]:
        """Those with an `id` above `after` that are still there, the oldest first."""
        with self._lock:
            missing = self._last - max(self._before_first, after)
            kept = list(self._events)
        return kept[-missing:] if missing > 0 else []

    def missed(self, after: int, found: list[Event]) -> int:
        """How many between `after` and the first of `found` aren't there any more."""
        first = int(found[0]["id"]) if found else 0
        return max(0, first - max(self._before_first, after) - 1)

    async def follow(self, after: int) -> AsyncGenerator[list[Event], None]:
        """Those with an `id` above `after`, then the others as they come. Never ends by itself."""
        news = asyncio.Event()
        follower = (asyncio.get_running_loop(), news)
        with self._lock:
            self._followers.add(follower)
        try:
            while True:
                news.clear()
                if found := self.since(after):
                    after = found[-1]["id"]
                    yield found
                else:
                    await news.wait()
        finally:
            with self._lock:
                self._followers.discard(follower)


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
