"""Bugs of ours that came up while the process ran: said once each, counted, shown in `status`.

What fails by a bug goes on where that is safe: a change leaves the old state, a task begins anew.
So somebody has to be told. Owned by the process; used by whatever goes on.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

import structlog

# Different faults that are said; those beyond are counted alone.
_MOST_SAID = 100
# Before what has failed begins anew, in seconds: the first time, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0

_log = structlog.get_logger("mailweir")


class FaultPart(StrEnum):
    """Where a fault came up."""

    ANSWER = "answer"
    CHANGE = "change"
    CHECK = "check"
    DATA_PLANE = "data_plane"
    LOOP = "loop"
    NOTICES = "notices"
    OUTLIERS = "outliers"
    SOCKET = "socket"
    TROUBLES = "troubles"
    WATCHDOG = "watchdog"


@dataclass(frozen=True, slots=True)
class Fault:
    """How often something failed in a part, how the last time, and when (seconds since 1970)."""

    part: FaultPart
    times: int
    last: str
    at: float


class Faults:
    """All of them. Used in one event loop; `told` by any thread."""

    def __init__(self) -> None:
        self._found: dict[FaultPart, Fault] = {}
        self._said: set[tuple[FaultPart, str]] = set()

    def note(self, part: FaultPart, error: BaseException) -> None:
        """Something failed by `error`, which nobody meant to be raised there."""
        words = repr(error)
        before = self._found.get(part)
        times = before.times + 1 if before else 1
        self._found[part] = Fault(part, times, words, time.time())
        # The place and the kind: what an error says may be other words each time.
        key = (part, f"{type(error).__name__} {_place(error)}")
        if key not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(key)
            _log.error("internal error, please report it", part=part, exc_info=error)

    def told(self) -> list[Fault]:
        """Of each part in which there was one."""
        return list(self._found.values())

    def times(self, part: FaultPart) -> int:
        """How often something failed there."""
        found = self._found.get(part)
        return found.times if found else 0


async def kept_going(
    part: FaultPart,
    work: Callable[[], Awaitable[None]],
    faults: Faults,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Do `work`; where it fails, note that and begin anew, later each time."""
    wait = _FIRST_PAUSE
    while True:
        try:
            await work()
        except Exception as error:
            faults.note(part, error)
        else:
            return
        await pause(wait)
        wait = min(2 * wait, _LONGEST_PAUSE)


def _place(error: BaseException) -> str:
    """Where it was raised; what it says itself where that isn't in Python."""
    at = error.__traceback__
    if at is None:
        return str(error)
    while at.tb_next is not None:
        at = at.tb_next
    return f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}"
