"""Makes every check at its own pace and keeps what was found.

Owned by the daemon, which gives it targets at start and at each reload and is called
back with every result. What is known of a server survives reloads by its identity.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Protocol

from mailweir.config.address import Address
from mailweir.config.check_keys import Check
from mailweir.config.words import CheckKind, Decides, Proxy
from mailweir.faults import FaultPart, Faults
from mailweir.health.agent_words import NOTHING_SAID, AgentSays, heard
from mailweir.health.budget import Budget
from mailweir.health.check import Outcome
from mailweir.health.probes.arrival import SINKS
from mailweir.health.target import CheckKey, Speech, Target
from mailweir.health.track import Track, interval, renewed, step, unseen, worst
from mailweir.spec import ServerKey, ServerState
from mailweir.state.desired import NO_WISH, Health, Wish

# Checks at a time. Each holds a descriptor; dead servers hold theirs for a whole
# time-out, so it is wide enough that they don't keep the living from being asked.
MAX_CHECKS = 256
# Spread of the intervals, so that servers aren't asked in step, by one node or by two.
JITTER = 0.2
# Results that are kept of each check.
KEPT = 10
# Checks a second that are made at once, where all of them are: a core is half busy with those.
_AT_ONCE = 1000

# Keys of a check that say when it is made, and not what it asks.
_PACE = ("every", "fast", "rise", "fall", "timeout", "initial")
# These don't speak as sessions do.
_OWN_PROTOCOL = (CheckKind.AGENT, CheckKind.HTTP, CheckKind.HTTPS)

Probe = Callable[[Target], Awaitable[Outcome]]


class Timer(Protocol):
    """What is to be called later, unless somebody says otherwise."""

    def cancel(self) -> None: ...


# Has something called in so many seconds.
Later = Callable[[float, Callable[[], None]], Timer]


@dataclass(frozen=True, slots=True)
class Result:
    """A check's outcome, and what it made of it: of what the check says, and of the server."""

    key: CheckKey
    target: Target
    outcome: Outcome
    said: Health  # by this check, before
    says: Health
    before: Health  # the server's
    after: Health
    wish: tuple[Wish, Wish]  # of an agent, before and after
    alarm: bool  # whether there is one now
    was_alarm: bool


@dataclass(slots=True)
class Watched:
    """One check of one server, and what it has found."""

    name: str
    target: Target
    track: Track
    results: deque[Outcome] = field(default_factory=lambda: deque(maxlen=KEPT))
    agent: AgentSays = NOTHING_SAID
    began: float = 0.0  # the last check, on the monitor's clock
    rounds: "_Rounds | None" = field(default=None, repr=False)

    @property
    def kind(self) -> CheckKind:
        """What it asks."""
        return self.target.kind

    @property
    def address(self) -> Address:
        """Where it goes: the server's, with another port perhaps."""
        return self.target.address

    @property
    def decides(self) -> Decides:
        """What comes of it."""
        return self.target.decides

    @property
    def health(self) -> Health:
        """What it says of the server."""
        return self.track.health

    @property
    def wished(self) -> ServerState | None:
        """What its agent wants the server to be."""
        return _wish(self).state

    @property
    def cap(self) -> int | None:
        """How many sessions its agent lets the server have."""
        return _wish(self).max_sessions

    @property
    def alarm(self) -> str:
        """What of this check somebody should see to; empty where nothing is."""
        if not self.results:
            return ""
        last = self.results[-1]
        if self.track.health in (Health.DOWN, Health.DRAIN) or not last.conclusive:
            return f"{last.step}: {last.detail}" if last.step else self._why_not_up
        return last.alarm

    @property
    def _why_not_up(self) -> str:
        """Of a server that passes this check."""
        is_held = self.track.streak >= self.target.check.rise
        return "held back for a minute: it came and went" if is_held else "not confirmed yet"


class Monitor:
    """The schedule of checks. `on_result` is called in the event loop and must not wait."""

    def __init__(
        self,
        *,
        probe: Probe,
        on_result: Callable[[Result], None],
        random: Random,
        faults: Faults,
        later: Later | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probe = probe
        self._on_result = on_result
        self._random = random
        self._faults = faults
        self._later = later or _later
        self._clock = clock
        self._slots = asyncio.Semaphore(MAX_CHECKS)
        self._budget = Budget(clock)
        self._watched: dict[CheckKey, Watched] = {}
        self._servers: dict[ServerKey, list[Watched]] = {}  # the pool's own check comes first
        self._slowness = 1
        self._tasks: set[asyncio.Task[None]] = set()
        self._unknown: set[ServerKey] = set()
        self._unknown_pools: set[str] = set()
        self._all_known = asyncio.Event()
        self._pools_known = asyncio.Event()

    def update(self, targets: Mapping[CheckKey, Target]) -> None:
        """Make these checks from now on, and no others.

        A new one is made at once. What a known one found is kept; where its
        address or kind changed, the next result decides at once.
        """
        for key in self._watched.keys() - targets.keys():
            self._end(self._watched.pop(key))
        for key, target in targets.items():
            watched = self._watched.get(key)
            if watched is None:
                watched = Watched(key.check, target, unseen(target.check, is_main=key.is_main))
                self._watched[key] = watched
            elif watched.target == target:
                continue
            else:
                self._end(watched)
                if _asks_otherwise(watched.target, target):
                    watched.track = renewed(watched.track)
                    watched.agent = NOTHING_SAID
                watched.target = target
            watched.rounds = rounds = _Rounds(key, watched)
            self._begin(rounds)
        self._budget.keep({target.address.ip for target in targets.values()})
        self._keep_sinks()
        self._servers = {}
        for key in targets:
            self._servers.setdefault(key.server, []).append(self._watched[key])
        self._unknown = {k for k in self._servers if self._of(k) is Health.UNKNOWN}
        known = {key.pool for key in self._servers.keys() - self._unknown}
        self._unknown_pools = {key.pool for key in self._unknown} - known
        self._note_known()

    def health(self) -> dict[ServerKey, Health]:
        """What is known now of each server, by all checks that decide."""
        return {key: self._of(key) for key in self._servers}

    def wishes(self) -> dict[ServerKey, Wish]:
        """What agents say that their servers are to have."""
        found: dict[ServerKey, Wish] = {}
        for key, checks in self._servers.items():
            for watched in checks:
                if (wish := _wish(watched)) != NO_WISH:
                    found[key] = wish.both(found.get(key, NO_WISH))
        return found

    def __len__(self) -> int:
        """How many servers are checked."""
        return len(self._servers)

    def checks(self, key: ServerKey) -> Sequence[Watched]:
        """The checks of a server, the pool's own first."""
        return self._servers.get(key, ())

    def hurry(self, key: ServerKey) -> None:
        """Check a server at once: it failed a live session, so its state is in doubt.

        One that was checked less than `fast` ago isn't: failing sessions may come by the
        hundred, and each check is one more session for it.
        """
        for watched in self._servers.get(key, ())[:1]:
            if self._clock() - watched.began >= watched.target.check.soon:
                self._at_once(watched)

    def slow_down(self, slowness: int) -> None:
        """Check a server that is as it was so many times as seldom. Where that is less than
        before, all are checked at once: within a second, or more where they are many.
        """
        is_faster, self._slowness = slowness < self._slowness, slowness
        if not is_faster:
            return
        within = max(1.0, len(self._watched) / _AT_ONCE)
        for watched in self._watched.values():
            if (rounds := watched.rounds) and rounds.timer:
                rounds.timer.cancel()
                self._wait(rounds, self._random.uniform(0.0, within))

    async def first_results(self) -> None:
        """Wait until every server has been checked once."""
        await self._all_known.wait()

    async def first_of_each_pool(self) -> None:
        """Wait until of every pool some server has been checked once."""
        await self._pools_known.wait()

    async def close(self) -> None:
        """End all checks."""
        self.update({})
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._keep_sinks()

    def _keep_sinks(self) -> None:
        SINKS.keep(
            arrives for one in self._watched.values() if (arrives := one.target.check.arrives)
        )

    def _of(self, key: ServerKey) -> Health:
        main, *further = self._servers[key]
        if not further:
            return main.track.health
        deciding = [one.track.health for one in further if one.target.decides is Decides.STATE]
        return worst(main.track.health, deciding)

    def _begin(self, rounds: "_Rounds") -> None:
        """A check, now."""
        rounds.timer = None
        rounds.task = task = asyncio.create_task(self._round(rounds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _round(self, rounds: "_Rounds") -> None:
        try:
            await self._check(rounds)
        except Exception as error:
            # A bug of ours costs one check, not those that would come after it.
            self._faults.note(FaultPart.CHECK, error)
        if rounds.are_over:
            return
        watched = rounds.watched
        delay = interval(watched.track, watched.target.check, self._slowness)
        # The first checks come all at once; the second ones spread over the interval.
        low, high = (0.0, 1.0) if rounds.is_first else (1 - JITTER, 1 + JITTER)
        rounds.is_first = False
        self._wait(rounds, delay * self._random.uniform(low, high))

    def _wait(self, rounds: "_Rounds", seconds: float) -> None:
        """A check then. Until then it is a timer and no more: there are thousands of them."""
        rounds.timer = self._later(seconds, partial(self._begin, rounds))

    def _at_once(self, watched: Watched) -> None:
        """Where its next check waits, that doesn't wait any longer."""
        if (rounds := watched.rounds) and rounds.timer:
            rounds.timer.cancel()
            self._begin(rounds)

    def _end(self, watched: Watched) -> None:
        """No more checks; what is under way comes to its end, and counts no more."""
        if (rounds := watched.rounds) is None:
            return
        rounds.are_over = True
        if rounds.timer:
            rounds.timer.cancel()
        elif rounds.task and not rounds.is_busy:
            rounds.task.cancel()

    async def _check(self, rounds: "_Rounds") -> None:
        """Once, when it is its turn."""
        target = rounds.watched.target
        async with self._budget.turn(target.address.ip), self._slots:
            rounds.watched.began = self._clock()
            rounds.is_busy = True
            try:
                outcome = await self._probe(target)
            finally:
                rounds.is_busy = False
        if rounds.are_over:
            # It may have begun to listen for its mail behind the reload that ended it.
            self._keep_sinks()
        else:
            self._record(rounds.key, rounds.watched, outcome)

    def _record(self, key: CheckKey, watched: Watched, outcome: Outcome) -> None:
        before, said = self._of(key.server), watched.track.health
        wish, was_alarm = _wish(watched), bool(watched.alarm)
        if watched.target.kind is CheckKind.AGENT and outcome.conclusive:
            watched.agent = heard(watched.agent, outcome.learned.agent)
            outcome = _by_agent(outcome, watched.agent)
            # An agent's word counts at once: it knows, and doesn't guess.
            watched.track = Track(outcome.verdict, fresh=False)
        elif outcome.conclusive:
            check, now = watched.target.check, self._clock()
            watched.track = step(watched.track, outcome.verdict, check, now)
        watched.results.append(outcome)
        if outcome.conclusive and key.is_main:
            self._unknown.discard(key.server)
            self._unknown_pools.discard(key.server.pool)
            self._note_known()
        self._on_result(
            Result(
                key,
                watched.target,
                outcome,
                said=said,
                says=watched.track.health,
                before=before,
                after=self._of(key.server),
                wish=(wish, _wish(watched)),
                alarm=bool(watched.alarm),
                was_alarm=was_alarm,
            )
        )

    def _note_known(self) -> None:
        _set(self._all_known, not self._unknown)
        _set(self._pools_known, not self._unknown_pools)


def _wish(watched: Watched) -> Wish:
    """What an agent's words come to: with `weight` nothing of the state, with `alarm` nothing."""
    match watched.target.decides:
        case Decides.STATE:
            return watched.agent.wish
        case Decides.WEIGHT:
            return replace(watched.agent.wish, state=None)
        case Decides.ALARM:
            return NO_WISH


def _by_agent(outcome: Outcome, says: AgentSays) -> Outcome:
    if not says.down:
        return outcome
    return replace(outcome, verdict=Health.DOWN, step="agent", detail=says.down)


def _later(seconds: float, what: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(seconds, what)


def _set(event: asyncio.Event, value: bool) -> None:
    if value:
        event.set()
    else:
        event.clear()


def _asks_otherwise(old: Target, new: Target) -> bool:
    """Whether earlier results say nothing about the new target. Mere pace doesn't count."""
    return _asked(old) != _asked(new)


def _asked(target: Target) -> Target:
    pace = {name: Check.model_fields[name].default for name in _PACE}
    asked = replace(target, connect=0.0, check=target.check.model_copy(update=pace))
    if target.kind in _OWN_PROTOCOL:
        # What sessions speak is nothing to it.
        asked = replace(asked, speech=Speech.OPAQUE, proxy=Proxy.OFF)
    return asked


@dataclass(slots=True)
class _Rounds:
    """Checks of one target, one after the other. Of another target there are others."""

    key: CheckKey
    watched: Watched
    timer: Timer | None = None  # of the next one, while it waits
    is_first: bool = True
    is_busy: bool = False  # one is under way
    are_over: bool = False
    task: asyncio.Task[None] | None = None
