"""How well the balancer of this node is, by what `mailweir run` answers, and by its silence. Pure.

A process that is gone may be back in a moment: sessions on the kernel path go on without it, and
clients wait in its listening sockets, where somebody keeps them. So it has `run_grace`; unless
nothing would be lost by a move. One that drains is to be replaced, most likely: it has `handover`
to bring its sessions to an end, and to be back.

Called by `asking`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mailweir.config.units import format_duration
from mailweir.ha.machine.facts import BalancerHealth
from mailweir.ha.machine.operator_words import Said

# More than any difference of priorities that is meant as one.
_NO_SERVER = 50
# Seconds in which a process answers that isn't busy.
_MOMENT = 0.2


@dataclass(frozen=True, slots=True)
class Answer:
    """What `mailweir run` says of itself."""

    pid: int
    listening: bool
    ending: bool
    workers_alive: bool
    sessions: int
    servers: int
    up: int
    pools_down: tuple[str, ...]
    paused: str  # by whom, in words; empty where it isn't
    generation: int
    digest: bytes
    parts: Mapping[str, bytes] = field(default_factory=dict)  # what the digest is made of
    words: tuple[Said, ...] | None = None  # of operators; None where it hasn't told them


class Grace:
    """What is made of the answers, one after the other."""

    def __init__(self, run_grace: float, handover: float) -> None:
        """Seconds that the process may be away without a word, and after it began to drain."""
        self.run_grace = run_grace
        self.handover = handover
        self._last: Answer | None = None
        self._health = BalancerHealth(why="`mailweir run` doesn't run on this node")
        self._away_since: float | None = None  # not a word, or it drains
        self._drained = False  # it said before that it does

    def answered(self, answer: Answer, now: float) -> BalancerHealth:
        """It answered. The next process has the rest of the grace until it has a listener."""
        if answer.ending:
            return self._drains(answer, now)
        last = self._last
        another = last is not None and (self._away_since is not None or answer.pid != last.pid)
        if not answer.listening and another and self._health.ok:
            return self.silent(now, gone=False, kept=True)
        self._last, self._away_since, self._drained = answer, None, False
        down = f"no server of {', '.join(answer.pools_down)} is up" if answer.pools_down else ""
        why = _why_not(answer)
        self._health = replace(
            _figures(answer), ok=not why, why=why or down, penalty=_NO_SERVER if down else 0
        )
        return self._health

    @property
    def drains(self) -> bool:
        """Whether the process, as far as is known, ends and has sessions still."""
        return self._drained and self._last is not None and self._last.sessions > 0

    def left(self, now: float) -> float:
        """For how long an answer may still be waited for, at least a moment."""
        if self._away_since is None or not self._health.ok:
            return max(_MOMENT, self.run_grace)
        return max(_MOMENT, self._away_since + self._limit() - now)

    def silent(
        self, now: float, *, gone: bool, kept: bool, asked: float | None = None
    ) -> BalancerHealth:
        """It didn't answer what it was asked (at `asked`, if not now); `gone` where there is no
        process to do so, as far as is known, `kept` where clients who come wait nevertheless.
        """
        if self._away_since is None:
            self._away_since = now if asked is None else asked
        last, health = self._last, self._health
        if last is None or not health.ok:
            return health
        away, limit = now - self._away_since, self._limit()
        if gone and not kept and self._drained:
            # It was stopped. The sessions that it told of last have ended since, as it wanted.
            health = replace(health, sessions=0)
            why = "`mailweir run` has ended, and nobody keeps its listening sockets"
        elif gone and not kept and last.sessions == 0:
            why = "`mailweir run` is gone, and no session with it"
        elif away < limit:
            which = "handover" if limit > self.run_grace else "run_grace"
            why = (
                f"`mailweir run` doesn't answer; it has {format_duration(limit)} ({which}) to come"
                " back"
            )
            return replace(health, why=why, away=True)
        else:
            longer = "handover" if limit > self.run_grace else "run_grace"
            why = f"`mailweir run` hasn't answered for {away:.0f} s, longer than {longer}"
        self._health = replace(health, ok=False, why=why, away=False)
        return self._health

    def _drains(self, answer: Answer, now: float) -> BalancerHealth:
        if self._away_since is None:
            self._away_since = now
        self._last, self._drained = answer, True
        limit = self._limit()
        why = (
            f"`mailweir run` drains and takes no new sessions; it has {format_duration(limit)}"
            " (handover) to come back"
        )
        ok = answer.workers_alive and now - self._away_since < limit
        if not ok:
            why = "`mailweir run` drains and takes no new sessions"
        self._health = replace(_figures(answer), ok=ok, why=why, away=True)
        return self._health

    def _limit(self) -> float:
        return max(self.run_grace, self.handover) if self._drained else self.run_grace


def _figures(answer: Answer) -> BalancerHealth:
    return BalancerHealth(
        up=answer.up,
        servers=answer.servers,
        sessions=answer.sessions,
        paused=answer.paused,
        config_digest=answer.digest,
        generation=answer.generation,
        parts=answer.parts,
        words=answer.words,
    )


def _why_not(answer: Answer) -> str:
    if not answer.workers_alive:
        return "no worker of `mailweir run` moves"
    return "" if answer.listening else "`mailweir run` has no listener yet"
