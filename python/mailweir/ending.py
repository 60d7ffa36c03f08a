"""How the process ends: it drains, until its sessions have ended or the deadline is there. Those in
the kernel that are left then go on without it.

Called by the daemon, once its main loop is over.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import structlog

from mailweir.config.units import format_duration
from mailweir.lanes import Lane
from mailweir.plane import Plane
from mailweir.supervisor import Supervisor

# Between looks at the sessions that are left, in seconds.
_LOOK = 0.25
# What a supervisor is told at each of them that it may still take, in seconds.
_EXTENSION = 30.0
# A drain as short as this is a restart's: clients may as well wait for the next process, in
# seconds. Those of a longer one had better try another host.
_SHORT = 10.0

# By then the addresses have moved, unless the other node can't take them, in seconds.
_LATER = 1.0

_log = structlog.get_logger("mailweir")


@dataclass(frozen=True, slots=True)
class Terms:
    """How long it may take."""

    deadline: float  # seconds
    # For so many seconds the next process is waited for: the addresses stay here, and clients wait
    # for it in the listening sockets. None where this node hasn't the addresses of a pair.
    handover: float | None
    # A restart: clients wait for the next process in the listening sockets, so it is to begin soon.
    restarts: bool = False


async def drain(
    plane: Plane,
    supervisor: Supervisor,
    lane: Lane,
    *,
    terms: Terms,
    wake: asyncio.Event,
    why_now: Callable[[], str],
    before: Callable[[], int] = lambda: 0,
) -> None:
    """No new sessions; the others go on to their end, for the deadline at most. What waits in the
    data plane is called in `lane`.

    `before` says how many the process before this one has still, which drains as well.

    `why_now` is asked at each look, which `wake` hastens: why it is to be over, if it is.
    """
    supervisor.stopping("draining")
    replaced = terms.deadline <= _SHORT or terms.handover is not None or terms.restarts
    handed_on = supervisor.is_there and replaced
    await lane.call(partial(_stop_accepting, plane, supervisor, handed_on))
    if terms.handover is not None or terms.restarts:
        plane.hurry()
    began = time.monotonic()
    deadline = min(terms.deadline, _SHORT) if terms.restarts and handed_on else terms.deadline
    left, staying = _left(plane, before)
    _log.info(
        "draining; a second TERM ends it now",
        sessions=left + staying,
        deadline=format_duration(deadline),
    )
    why, waits = "", handed_on and terms.handover is not None
    # Those in the kernel needn't be waited for where the next process goes on with them at once.
    while (left or (staying and not handed_on)) and not (why := why_now()):
        lasts = time.monotonic() - began
        if lasts >= deadline:
            why = "deadline reached"
            break
        if waits and terms.handover is not None and lasts >= terms.handover + _LATER:
            waits = False
            await lane.call(partial(_wait_no_more, supervisor))
        supervisor.extend(_EXTENSION)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK):
                await wake.wait()
        wake.clear()
        left, staying = _left(plane, before)
    _tell_the_end(left, staying, why)


def _tell_the_end(left: int, staying: int, why: str) -> None:
    if left:
        _log.warning("stopping with open sessions", sessions=left, in_kernel=staying, reason=why)
    elif staying:
        _log.info("stopping; sessions in the kernel go on for the next process", sessions=staying)
    else:
        _log.info("stopping, every session has ended")


async def lose(plane: Plane, supervisor: Supervisor, lane: Lane) -> int:
    """End all sessions of a process that drains, before the addresses that they came to are another
    machine's: else they would never hear of it. How many there were. Nobody waits here either.
    """
    lost = sum(plane.kill_from(everybody) for everybody in ("0.0.0.0/0", "::/0"))
    _log.warning("sessions are lost: the addresses move to the other node", sessions=lost)
    await lane.call(partial(_wait_no_more, supervisor))
    return lost


def _wait_no_more(supervisor: Supervisor) -> None:
    supervisor.store.keep([])
    supervisor.until_heard()


def _left(plane: Plane, before: Callable[[], int]) -> tuple[int, int]:
    """Sessions that end with the process, and those in the kernel that go on without it."""
    stats = plane.stats()
    path = stats.kernel_path
    staying = path.flows if path is not None and path.ends_with_process is None else 0
    # A flow that began or ended between the two counts is none that is left.
    return max(0, stats.active - staying) + before(), staying


def _stop_accepting(plane: Plane, supervisor: Supervisor, handed_on: bool) -> None:
    plane.drain(to_successor=handed_on)
    if not handed_on:
        supervisor.store.keep([])
