"""Whether a server spoils more sessions than the others of its pool. Pure; used by `outliers`.

Two ways, both against the others:

- In a row: so many sessions one after the other that a server which fails as often as the others
  do would hardly ever come to (`row_needed`).
- By share: within a window its share is MARGIN above the others', and chance would bring that about
  with a probability below ALPHA. That is Fisher's exact one (one-sided): given how many sessions
  failed in all, how likely so many of them are the server's own. It is right for small numbers too,
  where comparing two shares by a normal distribution isn't; and how often sessions fail in the pool
  as a whole plays no part.

Each is asked every second, so that ALPHA has to be small. In simulations of some hundred hours no
server was ejected by mistake where all of a pool spoil a fifth of their sessions; where they all
spoil more, one is once in some days.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil, exp, lgamma, log
from typing import NamedTuple

# How likely chance may be, at most.
ALPHA = 1e-6
# How much more of its sessions than the others a server has to spoil; also the share from which on
# it is said to fail them. Less isn't worth going without it: another server takes those sessions.
MARGIN = 0.05
# Sessions that a share is made of, at least, of the server and of the others.
FEWEST = 20
# Seconds: the short one is for what begins suddenly, the long one for pools with few sessions.
WINDOWS = (10.0, 60.0)
# For so many seconds a server that went is remembered: few sessions last longer.
REMEMBERED = 3600.0
# Seconds between two figures that are kept: windows are up to so much longer.
STRIDE = 5.0
# Of a sum.
_NEGLIGIBLE = 1e-9


class EjectionCause(StrEnum):
    """By which of the two a server is ejected."""

    CONSECUTIVE = "consecutive"
    SHARE = "share"


class Counted(NamedTuple):
    """What was counted of a server until some moment."""

    taken: int  # sessions that it took
    refused: int  # that it didn't take, and another one did
    cut: int  # that it cut off in a message
    in_vain: int  # that neither it nor another one took
    in_a_row: int  # at this moment, of those that it refused or cut

    def is_before(self, later: "Counted") -> bool:
        """Whether that can have become of this."""
        return all(one <= other for one, other in zip(self[:-1], later[:-1], strict=True))


_NOTHING = Counted(0, 0, 0, 0, 0)


class Tally(NamedTuple):
    """Sessions in a time, and how many of these it spoiled; of those that all failed the number."""

    sessions: int
    spoiled: int
    in_vain: int

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.spoiled / self.sessions if self.sessions else 0.0


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A server that spoils more than the others, and by how much."""

    name: str
    cause: EjectionCause
    reason: str
    share: float


class Window(NamedTuple):
    """A time up to now: its seconds, and what had been counted when it began, by the latest."""

    length: float
    begins: tuple[Mapping[str, Counted], ...]


@dataclass(slots=True)
class History:
    """What was counted of a pool's servers lately."""

    now: Mapping[str, Counted] = field(default_factory=dict)
    # The second before; and each STRIDE, as far back as windows go.
    _before: Mapping[str, Counted] = field(default_factory=dict)
    _kept: deque[tuple[float, Mapping[str, Counted]]] = field(default_factory=deque)
    # Evidence is what comes behind these: since then a server has been in use.
    _since: dict[str, Counted] = field(default_factory=dict)
    # Servers that went, when, and what had been counted: where sessions of theirs live on, what is
    # counted goes on from there when they come back.
    _gone: dict[str, tuple[float, Counted]] = field(default_factory=dict)
    # What had been counted of all when a server came into use: before that the others had other
    # servers to send sessions on to.
    _joined: dict[str, Mapping[str, Counted]] = field(default_factory=dict)
    # The same, when the row of a server began.
    _rows: dict[str, Mapping[str, Counted]] = field(default_factory=dict)

    def begin_anew(self, counted: Mapping[str, Counted], used: Sequence[str], now: float) -> None:
        """The same as `note`, where nothing bad has come for so long that nobody looked."""
        self._kept.clear()
        self.note(counted, used, now)

    def note(self, counted: Mapping[str, Counted], used: Sequence[str], now: float) -> None:
        """What is counted at this moment, and of whom it is evidence: those in use."""
        self._before, self.now = self.now, counted
        self._gone |= {n: (now, one) for n, one in self._before.items() if n not in counted}
        self._joined = {name: self._joined.get(name, self._at_first(name)) for name in used}
        self._since = {name: self._still(name) for name in used}
        self._gone = {
            name: (at, one)
            for name, (at, one) in self._gone.items()
            if name not in counted and now - at < REMEMBERED
        }
        rows, self._rows = self._rows, {}
        for name in used:
            row = self.row(name)
            if row:
                grows = row >= self._row_in(self._before, name)
                self._rows[name] = rows[name] if grows and name in rows else self._before
        if not self._kept or now - self._kept[-1][0] >= STRIDE:
            self._kept.append((now, counted))
        while len(self._kept) > 1 and now - self._kept[1][0] >= WINDOWS[-1]:
            self._kept.popleft()

    @property
    def has_rows(self) -> bool:
        """Whether a server's last session was spoiled."""
        return bool(self._rows)

    def row(self, name: str) -> int:
        """How many sessions a server has spoiled in a row, as far as that is evidence."""
        return self._row_in(self.now, name)

    def windows(self, name: str, now: float) -> Iterator[Window]:
        """Of a server in use: how long each is, and from where it counts."""
        for length in WINDOWS:
            old = [kept for kept in self._kept if now - kept[0] >= length]
            began, counted = old[-1] if old else self._kept[0]
            if began < now:
                yield Window(now - began, (counted, self._joined[name]))

    def since_row(self, name: str) -> Window:
        """Since the row of a server began, that there is; its length plays no part."""
        return Window(0.0, (self._rows[name], self._joined[name]))

    def tally(self, names: Iterable[str], window: Window) -> Tally:
        """Of servers in use together."""
        sessions = spoiled = in_vain = 0
        for name in names:
            now, base = self.now[name], self._since[name]
            begins = [base, *(begin[name] for begin in window.begins if name in begin)]
            # Of a server that went and came: of that name another one has begun from nothing since.
            begins = [one for one in begins if one.is_before(now)] or [_NOTHING]
            refused = now.refused - max(one.refused for one in begins)
            of_it = refused + now.taken - max(one.taken for one in begins)
            sessions += of_it
            # What is cut now may have been taken before.
            spoiled += min(of_it, refused + now.cut - max(one.cut for one in begins))
            in_vain += now.in_vain - max(one.in_vain for one in begins)
        return Tally(sessions, spoiled, in_vain)

    def _still(self, name: str) -> Counted:
        known = self._since.get(name)
        if known is None:
            if name in self._before:
                return self.now[name]
            _, gone = self._gone.get(name, (0.0, _NOTHING))
            return gone if gone.is_before(self.now[name]) else _NOTHING
        # A row that has ended since is no part of the next one.
        return known._replace(in_a_row=min(known.in_a_row, self.now[name].in_a_row))

    def _at_first(self, name: str) -> Mapping[str, Counted]:
        """What had been counted when a server comes into use: nothing where it is new."""
        return self.now if name in self._before else {}

    def _row_in(self, counted: Mapping[str, Counted], name: str) -> int:
        if name not in counted:
            return 0
        return max(0, counted[name].in_a_row - self._since[name].in_a_row)


def worst(
    history: History, asked: Sequence[str], used: Sequence[str], consecutive: int, now: float
) -> Suspicion | None:
    """Of those that are asked about the one that spoils most, where one spoils more than the others
    in use do.
    """
    suspects = [one for one in asked if _may_be_bad(history, one, consecutive, now)]
    found = [_suspicion(history, name, used, consecutive, now) for name in suspects]
    return max((one for one in found if one), key=lambda one: one.share, default=None)


def fails(history: History, name: str, consecutive: int, now: float, *, before: bool) -> bool:
    """Whether a server fails sessions, whatever the others do. Where it did `before`, it has to
    come down to half of that.
    """
    if history.row(name) >= consecutive:
        return True
    windows = [*history.windows(name, now)]
    tally = history.tally([name], windows[-1]) if windows else Tally(0, 0, 0)
    failed = tally.spoiled + tally.in_vain
    share = failed / max(1, tally.sessions + tally.in_vain)
    return failed >= consecutive and share >= (MARGIN / 2 if before else MARGIN)


def row_needed(consecutive: int, others: Tally) -> int:
    """How many sessions in a row a server has to spoil.

    `consecutive`, as long as the others spoil less than MARGIN of theirs. Beyond that more: so many
    that a server which spoils as many as they do comes to them just as seldom.
    """
    # Jeffreys' estimate: of few that were seen little is known. Those that nobody
    # took count as well: a session that the others fail and the server takes would end its row, so
    # that within that row few failures of theirs are seen.
    spoiled, sessions = others.spoiled + others.in_vain, others.sessions + others.in_vain
    share = (spoiled + 0.5) / (sessions + 1)
    if share <= MARGIN:
        return consecutive
    return ceil(consecutive * log(MARGIN) / log(share))


def chance(own: Tally, others: Tally) -> float:
    """How likely so many of all spoiled sessions are a server's own, or more, where it is no worse
    than the others: Fisher's exact probability, the upper tail of the hypergeometric distribution.
    """
    sessions, spoiled = own.sessions + others.sessions, own.spoiled + others.spoiled
    in_all, found = _ways(sessions, spoiled), 0.0
    for number in range(own.spoiled, min(own.sessions, spoiled) + 1):
        own_ways, ways = _ways(own.sessions, number), _ways(others.sessions, spoiled - number)
        likely = exp(own_ways + ways - in_all)
        found += likely
        # Beyond the most likely number, which this one is, each is less likely than the one before.
        if likely < found * _NEGLIGIBLE:
            break
    return found


def _ways(all_of: int, some: int) -> float:
    """The logarithm of the binomial coefficient."""
    return lgamma(all_of + 1) - lgamma(some + 1) - lgamma(all_of - some + 1)


def _may_be_bad(history: History, name: str, consecutive: int, now: float) -> bool:
    """Seldom: nearly all servers spoil nothing."""
    return history.row(name) >= consecutive or any(
        history.tally([name], window).share >= MARGIN for window in history.windows(name, now)
    )


def _most(history: History, names: Sequence[str], windows: Iterable[Window]) -> Tally:
    """In the window that tells most."""
    return max((history.tally(names, one) for one in windows), key=lambda one: one.sessions)


def _suspicion(
    history: History, name: str, used: Sequence[str], consecutive: int, now: float
) -> Suspicion | None:
    others = [one for one in used if one != name]
    row = history.row(name)
    if row >= consecutive:
        tally = _most(history, others, [history.since_row(name), *history.windows(name, now)])
        if row >= row_needed(consecutive, tally):
            reason = f"{row} sessions failed in a row"
            return Suspicion(name, EjectionCause.CONSECUTIVE, reason, 1.0)
    for window in history.windows(name, now):
        own, rest = history.tally([name], window), history.tally(others, window)
        if min(own.sessions, rest.sessions) < FEWEST or own.share - rest.share < MARGIN:
            continue
        if chance(own, rest) < ALPHA:
            reason = (
                f"{own.spoiled} of {own.sessions} sessions failed in {window.length:.0f} s,"
                f" {rest.spoiled} of {rest.sessions} at the others"
            )
            return Suspicion(name, EjectionCause.SHARE, reason, own.share)
    return None
