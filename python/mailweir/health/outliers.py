"""Which servers get no new sessions for a while, since they spoil those that they have. Pure.

Fed each second with what the data plane has counted of servers, and with the checks of those that
are ejected; time is an argument. A pool's servers are compared with each other: what happens at all
of them (a policy, a client that is refused everywhere, a network) ejects none. `suspicion` says who
spoils more than the others; here is what becomes of it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from math import ceil, floor, inf

from mailweir.config.pool import Outlier
from mailweir.health.suspicion import (
    STRIDE,
    WINDOWS,
    Counted,
    EjectionCause,
    History,
    Suspicion,
    fails,
    worst,
)
from mailweir.spec import ServerKey

# The longest that a server is out, in `base`; and for how long it has to do well until one of the
# times that it was out is forgotten.
LONGEST = 10
# Two ejections of a server begin at least so many seconds apart: one flap a minute.
APART = 60.0
# Seconds between two looks.
EVERY = 1.0
# Why an ejection ended whose server isn't in use all the same.
DOWN = "its checks call it down"
# For how many seconds servers have to fail until that is told: by then most of them are ejected.
TOLD_AFTER = 20.0


@dataclass(frozen=True, slots=True)
class ServerSeen:
    """A server of a pool. `in_use`: new sessions go there, or would if it weren't ejected."""

    name: str
    address: str
    in_use: bool
    counted: Counted


@dataclass(frozen=True, slots=True)
class PoolSeen:
    """A pool at one moment. Less than `panic` of `meant` servers up would be a panic."""

    name: str
    settings: Outlier | None
    panic: float
    meant: int
    members: Sequence[ServerSeen]
    bad: int  # spoiled sessions until now, and those that nobody took
    before: Mapping[str, Counted]  # what was counted a second ago; empty where nobody looked


@dataclass(frozen=True, slots=True)
class Ejection:
    """Why a server is out, since when, and until when at least; times on the clock of `step`."""

    cause: EjectionCause
    reason: str
    began: float
    until: float
    times: int  # how often by now; the older ones may be forgotten


@dataclass(frozen=True, slots=True)
class Change:
    """A server was ejected, or is in use again: then why it was out, and what ended that."""

    key: ServerKey
    ejection: Ejection
    ended: str = ""


def most_out(pool: PoolSeen) -> int:
    """How many servers may be ejected at a time.

    `max_ejected` of those in use, but one where that would be less; never the last of them; and
    none by which the pool would come into panic, which would use them all the same.
    """
    if pool.settings is None:
        return 0
    there = sum(one.in_use for one in pool.members)
    # Shares are a hundredth or more: what is less than that is no part of a server but rounding.
    wanted = max(1, floor(there * pool.settings.max_ejected + 1e-6))
    needed = ceil(pool.meant * pool.panic - 1e-6)
    return max(0, min(wanted, there - 1, there - needed))


class Outliers:
    """Of all pools of a process. What it knows outlives reloads by servers' names."""

    def __init__(self) -> None:
        self._pools: dict[str, _Pool] = {}

    def keep(self, pools: Iterable[str]) -> None:
        """What is known of others is forgotten."""
        self._pools = {name: self._pools.get(name) or _Pool() for name in pools}

    def rests(self, pool: str, bad: int) -> bool:
        """Whether nothing comes of a pool that has spoiled so many sessions until now, so that it
        needn't be looked at: nearly always, of nearly all.
        """
        known = self._pools[pool]
        return known.rests and known.bad == bad

    def step(self, seen: PoolSeen, now: float) -> list[Change]:
        """What changes by what is counted now."""
        return self._pools[seen.name].step(seen, now)

    def checked(self, key: ServerKey, at: float, now: float, *, passed: bool) -> Change | None:
        """A server passed a check that began at `at`, or that couldn't be made. It is used again
        where its time is over.
        """
        found = self._server(key)
        ejection = found.ejection if found else None
        if found is None or ejection is None or at < ejection.until:
            return None
        found.is_used(now)
        why = "it passed a check" if passed else "it can't be checked"
        return Change(key, ejection, f"its time is over, and {why}")

    def called_down(self, key: ServerKey, now: float) -> Change | None:
        """By its checks: what was wrong is what they see as well, and when they are content again,
        so are we.
        """
        # Perhaps before anybody has looked at its pool.
        self._pools.setdefault(key.pool, _Pool()).were_down[key.server] = now
        found = self._server(key)
        if found is None or (ejection := found.ejection) is None:
            return None
        found.is_used(now)
        return Change(key, ejection, DOWN)

    def pardon(self, key: ServerKey, now: float) -> None:
        """An operator wants a server used: nothing is held against it any more."""
        if (found := self._server(key)) is not None:
            found.is_used(now)
            found.times = 0

    def due(self, now: float) -> list[ServerKey]:
        """Servers whose time is over: a check would bring them back."""
        return [key for key, one in self._ejected() if one.until <= now]

    def ejected(self) -> Set[ServerKey]:
        """Those that are to get no new sessions."""
        return {key for key, _ in self._ejected()}

    def told(self, key: ServerKey) -> Ejection | None:
        """Why a server is out; None where it isn't."""
        found = self._server(key)
        return found.ejection if found else None

    def failing(self) -> Mapping[str, Sequence[str]]:
        """By pool: servers that fail sessions and are used all the same, since the others do so
        too, or since no more may be out.
        """
        return {name: pool.told for name, pool in self._pools.items()}

    def _server(self, key: ServerKey) -> "_Server | None":
        pool = self._pools.get(key.pool)
        return pool.servers.get(key.server) if pool else None

    def _ejected(self) -> Iterator[tuple[ServerKey, Ejection]]:
        for pool_name, pool in self._pools.items():
            for name, server in () if pool.rests else pool.servers.items():
                if server.ejection is not None:
                    yield ServerKey(pool_name, name), server.ejection


@dataclass(slots=True)
class _Server:
    """What is known of one."""

    address: str
    ejection: Ejection | None = None
    began: float = -inf  # its last ejection
    back: float = -inf  # when that ended
    times: int = 0

    def is_used(self, now: float) -> None:
        """Again."""
        self.ejection, self.back = None, now

    def is_out(self, found: Suspicion, base: float, now: float) -> Ejection:
        """From now on, longer each time; what was long ago is forgotten."""
        forgotten = floor((now - self.back) / (LONGEST * base)) if self.times else 0
        self.times = min(LONGEST, max(0, self.times - forgotten) + 1)
        self.began = now
        until = now + self.times * base
        self.ejection = Ejection(found.cause, found.reason, now, until, self.times)
        return self.ejection


@dataclass(slots=True)
class _Pool:
    servers: dict[str, _Server] = field(default_factory=dict)
    history: History = field(default_factory=History)
    # Those that fail and aren't ejected, since when; and of those who has been told of.
    failing: dict[str, float] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    bad: int = 0
    got_worse: float = -inf
    # When checks called a server down.
    were_down: dict[str, float] = field(default_factory=dict)
    # Nothing is under way: the next bad session changes that.
    rests: bool = False

    def step(self, seen: PoolSeen, now: float) -> list[Change]:
        moved = self._moved(seen)
        out = [(name, ejection) for name, ejection in moved.items() if ejection]
        self.servers = {one.name: self._known(one) for one in seen.members}
        changes = self._back(seen, out, now, "its address changed")
        counted = {one.name: one.counted for one in seen.members}
        if seen.settings is None:
            self.history.note(counted, [], now)
            self.failing, self.told, self.bad, self.rests = {}, (), seen.bad, True
            out = [(name, one.ejection) for name, one in self.servers.items() if one.ejection]
            return changes + self._back(seen, out, now, "`outlier: none`")
        unwanted = self._out(seen)[most_out(seen) :]
        changes += self._back(seen, unwanted, now, "too few others are up")
        used = self._in_use(seen)
        if self.rests and seen.before:
            self.history.begin_anew(seen.before, used, now - EVERY)
        # Long ago is nothing: nobody looks while the pool rests.
        down = (name for name, at in self.were_down.items() if now - at < 2 * EVERY)
        if anew := {*moved, *down}:
            # What the machines before did is no evidence: these come into use now. Nor is what
            # checks saw as well, perhaps for less than a second.
            self.history.note(counted, [name for name in used if name not in anew], now)
        self.were_down.clear()
        self.history.note(counted, used, now)
        changes += self._eject(seen, seen.settings, now)
        self._note_failing(seen, seen.settings, now)
        self._note_rest(seen, now)
        return changes

    def _moved(self, seen: PoolSeen) -> Mapping[str, Ejection | None]:
        """Servers that are at another address now, and why the one before was out."""
        return {
            one.name: known.ejection
            for one in seen.members
            if (known := self.servers.get(one.name)) and known.address != one.address
        }

    def _known(self, member: ServerSeen) -> _Server:
        found = self.servers.get(member.name)
        # At another address it is another machine.
        return found if found and found.address == member.address else _Server(member.address)

    def _in_use(self, seen: PoolSeen) -> list[str]:
        """Where new sessions go."""
        used = (one.name for one in seen.members if one.in_use)
        return [name for name in used if self.servers[name].ejection is None]

    def _out(self, seen: PoolSeen) -> list[tuple[str, Ejection]]:
        """Who would be in use but for its ejection, the one that is over last at the beginning."""
        found = [(one.name, self.servers[one.name].ejection) for one in seen.members if one.in_use]
        out = [(name, ejection) for name, ejection in found if ejection]
        return sorted(out, key=lambda one: one[1].until, reverse=True)

    def _back(
        self, seen: PoolSeen, back: Sequence[tuple[str, Ejection]], now: float, why: str
    ) -> list[Change]:
        """These are wanted in use."""
        for name, _ in back:
            self.servers[name].is_used(now)
        return [Change(ServerKey(seen.name, name), ejection, why) for name, ejection in back]

    def _eject(self, seen: PoolSeen, settings: Outlier, now: float) -> Iterator[Change]:
        """The worst first: without it the others look better."""
        for _ in range(most_out(seen) - len(self._out(seen))):
            used = self._in_use(seen)
            free = [name for name in used if now - self.servers[name].began >= APART]
            found = worst(self.history, free, used, settings.consecutive, now)
            if found is None:
                return
            ejection = self.servers[found.name].is_out(found, settings.base, now)
            yield Change(ServerKey(seen.name, found.name), ejection)

    def _note_failing(self, seen: PoolSeen, settings: Outlier, now: float) -> None:
        self.failing = {
            name: self.failing.get(name, now)
            for name in self._in_use(seen)
            if fails(self.history, name, settings.consecutive, now, before=name in self.failing)
        }
        self.told = tuple(n for n, since in self.failing.items() if now - since >= TOLD_AFTER)

    def _note_rest(self, seen: PoolSeen, now: float) -> None:
        if seen.bad != self.bad:
            self.bad, self.got_worse = seen.bad, now
        out = any(one.ejection for one in self.servers.values())
        under_way = out or self.failing or self.history.has_rows
        self.rests = not under_way and now - self.got_worse >= WINDOWS[-1] + STRIDE
