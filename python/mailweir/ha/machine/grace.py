"""How well the balancer of this node is, by what `mailweir run` answers, and by its silence. Pure.

A process that is gone may be back in a moment: sessions on the kernel path go on without it, and
clients wait in its listening sockets. So it has `run_grace`; unless nothing could be lost.

Called by `balancer`.
"""

from dataclasses import dataclass, replace

from mailweir.config.units import format_duration
from mailweir.ha.machine.facts import Health

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
    generation: int
    digest: bytes


class Grace:
    """What is made of the answers, one after the other."""

    def __init__(self, run_grace: float) -> None:
        """Seconds that the process may be away."""
        self.run_grace = run_grace
        self._last: Answer | None = None
        self._health = Health(why="`mailweir run` doesn't run on this node")
        self._silent_since: float | None = None

    def answered(self, answer: Answer, now: float) -> Health:
        """It answered. The next process has the rest of the grace until it has a listener."""
        last, begins = self._last, not (answer.listening or answer.ending)
        another = last is not None and (self._silent_since is not None or answer.pid != last.pid)
        if begins and another and self._health.ok:
            return self.silent(now, gone=False)
        self._last, self._silent_since = answer, None
        why = _why_not(answer)
        penalty = _NO_SERVER if answer.pools_down else 0
        down = f"no server of {', '.join(answer.pools_down)} is up" if penalty else ""
        self._health = Health(
            ok=not why,
            why=why or down,
            penalty=penalty,
            up=answer.up,
            servers=answer.servers,
            sessions=answer.sessions,
            config_digest=answer.digest,
            generation=answer.generation,
        )
        return self._health

    def left(self, now: float) -> float:
        """For how long an answer may still be waited for, at least a moment."""
        if self._silent_since is None or not self._health.ok:
            return max(_MOMENT, self.run_grace)
        return max(_MOMENT, self._silent_since + self.run_grace - now)

    def silent(self, now: float, *, gone: bool, asked: float | None = None) -> Health:
        """It didn't answer what it was asked (at `asked`, if not now); `gone` where there is no
        process to do so, as far as is known.
        """
        if self._silent_since is None:
            self._silent_since = now if asked is None else asked
        last, health = self._last, self._health
        if last is None or not health.ok:
            return health
        away = now - self._silent_since
        if gone and last.sessions == 0:
            why = "`mailweir run` is gone, and no session with it"
        elif away < self.run_grace:
            grace = format_duration(self.run_grace)
            return replace(
                health,
                why=f"`mailweir run` doesn't answer; it has {grace} (run_grace) to come back",
            )
        else:
            why = f"`mailweir run` hasn't answered for {away:.0f} s, longer than run_grace"
        self._health = replace(health, ok=False, why=why)
        return self._health


def _why_not(answer: Answer) -> str:
    if not answer.workers_alive:
        return "no worker of `mailweir run` moves"
    if answer.ending and answer.sessions == 0:
        return "`mailweir run` ends"
    # While it ends with sessions they are worth more than new ones: a switch would cut them.
    if not answer.listening and not answer.ending:
        return "`mailweir run` has no listener yet"
    return ""
