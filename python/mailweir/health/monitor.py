"""Checks every server at its own pace and keeps what was found.

Owned by the daemon, which gives it targets at start and at each reload and is called
back with every result. What is known of a server survives reloads by its identity.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from mailweir.faults import FaultPart, Faults
from mailweir.health.check import Outcome, Target
from mailweir.health.track import Track, interval, renewed, step
from mailweir.spec import ServerKey
from mailweir.state.desired import Health

# Checks at a time. Each holds a descriptor; dead servers hold theirs for a whole
# time-out, so it is wide enough that they don't keep the living from being asked.
MAX_CHECKS = 256
# Spread of the intervals, so that servers aren't asked in step, by one node or by two.
JITTER = 0.2

Probe = Callable[[Target], Awaitable[Outcome]]
# Until the event is set, or so many seconds are over.
Pause = Callable[[asyncio.Event, float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Result:
    """A check's outcome and what it made of the server's health."""

    key: ServerKey
    outcome: Outcome
    before: Health
    after: Health


@dataclass(slots=True)
class _Watched:
    target: Target
    track: Track = field(default_factory=Track)
    last: Outcome | None = None
    began: float = 0.0  # the last check, on the monitor's clock
    # Set where the next check needn't wait for its turn.
    hurried: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Monitor:
    """The schedule of checks. `on_result` is called in the event loop and must not wait."""

    def __init__(
        self,
        *,
        probe: Probe,
        on_result: Callable[[Result], None],
        random: Random,
        faults: Faults,
        pause: Pause | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probe = probe
        self._on_result = on_result
        self._random = random
        self._faults = faults
        self._pause = pause or _until
        self._clock = clock
        self._slots = asyncio.Semaphore(MAX_CHECKS)
        self._watched: dict[ServerKey, _Watched] = {}
        self._unknown: set[ServerKey] = set()
        self._unknown_pools: set[str] = set()
        self._all_known = asyncio.Event()
        self._pools_known = asyncio.Event()

    def update(self, targets: Mapping[ServerKey, Target]) -> None:
        """Check these servers from now on, and no others.

        A new server is checked at once. A known one keeps its health; where its
        address or kind of check changed, the next result decides at once.
        """
        for key in self._watched.keys() - targets.keys():
            _cancel(self._watched.pop(key))
        for key, target in targets.items():
            watched = self._watched.get(key)
            if watched is None:
                watched = self._watched[key] = _Watched(target)
            elif watched.target == target:
                continue
            else:
                _cancel(watched)
                if _asks_otherwise(watched.target, target):
                    watched.track = renewed(watched.track)
                watched.target = target
            watched.task = asyncio.create_task(self._watch(key, watched))
        self._unknown = {k for k, w in self._watched.items() if w.track.health is Health.UNKNOWN}
        known = {key.pool for key in self._watched.keys() - self._unknown}
        self._unknown_pools = {key.pool for key in self._unknown} - known
        self._note_known()

    def health(self) -> dict[ServerKey, Health]:
        """What is known now."""
        return {key: watched.track.health for key, watched in self._watched.items()}

    def __len__(self) -> int:
        """How many servers are checked."""
        return len(self._watched)

    def last(self, key: ServerKey) -> Outcome | None:
        """The last finished check of a server."""
        watched = self._watched.get(key)
        return watched.last if watched else None

    def hurry(self, key: ServerKey) -> None:
        """Check a server at once: it failed a live session, so its state is in doubt.

        One that was checked less than `fast` ago isn't: failing sessions may come by the
        hundred, and each check is one more session for it.
        """
        watched = self._watched.get(key)
        if watched and self._clock() - watched.began >= watched.target.check.soon:
            watched.hurried.set()

    async def first_results(self) -> None:
        """Wait until every server has been checked once."""
        await self._all_known.wait()

    async def first_of_each_pool(self) -> None:
        """Wait until of every pool some server has been checked once."""
        await self._pools_known.wait()

    async def close(self) -> None:
        """End all checks."""
        tasks = [watched.task for watched in self._watched.values() if watched.task]
        self.update({})
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, key: ServerKey, watched: _Watched) -> None:
        first = True
        while True:
            try:
                async with self._slots:
                    watched.began = self._clock()
                    outcome = await self._probe(watched.target)
                self._record(key, watched, outcome)
            except Exception as error:
                # A bug of ours costs one check, not those that would come after it.
                self._faults.note(FaultPart.CHECK, error)
            delay = interval(watched.track, watched.target.check)
            # The first checks come all at once; the second ones spread over the interval.
            low, high = (0.0, 1.0) if first else (1 - JITTER, 1 + JITTER)
            first = False
            await self._wait(watched, delay * self._random.uniform(low, high))

    async def _wait(self, watched: _Watched, delay: float) -> None:
        """Until the next check is due, or is hurried."""
        watched.hurried.clear()
        await self._pause(watched.hurried, delay)

    def _record(self, key: ServerKey, watched: _Watched, outcome: Outcome) -> None:
        before = watched.track.health
        watched.last = outcome
        if outcome.conclusive:
            watched.track = step(watched.track, outcome.ok, watched.target.check)
            self._unknown.discard(key)
            self._unknown_pools.discard(key.pool)
            self._note_known()
        self._on_result(Result(key, outcome, before, watched.track.health))

    def _note_known(self) -> None:
        _set(self._all_known, not self._unknown)
        _set(self._pools_known, not self._unknown_pools)


async def _until(hurried: asyncio.Event, seconds: float) -> None:
    """Without a task of its own: thousands of servers wait so, and all end at once."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await hurried.wait()


def _set(event: asyncio.Event, value: bool) -> None:
    if value:
        event.set()
    else:
        event.clear()


def _asks_otherwise(old: Target, new: Target) -> bool:
    """Whether earlier results say nothing about the new target. Mere pace doesn't count."""
    return (old.address, old.kind, old.proxy) != (new.address, new.kind, new.proxy)


def _cancel(watched: _Watched) -> None:
    if watched.task is not None:
        watched.task.cancel()
