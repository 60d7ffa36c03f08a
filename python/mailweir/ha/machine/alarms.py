"""What an operator should know of a pair, said once when it begins and once when it ends. Pure.

Used by `inputs` and `states`.
"""

from collections.abc import Callable

# How long it stays an alarm what a datagram or a packet told, which nothing takes back.
_PASSING = 60.0


class Alarms:
    """Those of one node, in `active` by a word for each."""

    def __init__(self, active: dict[str, str], say: Callable[[str, str, str], None]) -> None:
        """`say` takes level, event and reason."""
        self._active = active
        self._say = say
        self._passing: dict[str, float] = {}

    def put(self, key: str, problem: str) -> None:
        """Note what is wrong; an empty `problem` ends it."""
        if self._active.get(key, "") == problem:
            return
        if problem:
            self._active[key] = problem
            self._say("warning", "alarm", problem)
        else:
            self._say("info", "alarm is over", self._active.pop(key))

    def put_for_now(self, key: str, problem: str, now: float) -> None:
        """An alarm that nothing takes back but time."""
        self._passing[key] = now + _PASSING
        self.put(key, problem)

    def pass_by(self, now: float) -> None:
        """End those that have lasted long enough."""
        for key in [key for key, until in self._passing.items() if now >= until]:
            del self._passing[key]
            self.put(key, "")
