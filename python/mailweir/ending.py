"""How the process ends: it drains, until its sessions have ended or the deadline is there. Those in
the kernel that are left then go on without it.

Called by the daemon, once its main loop is over.
"""

import asyncio
import time
from collections.abc import Callable
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

_log = structlog.get_logger("mailweir")


async def drain(
    plane: Plane,
    supervisor: Supervisor,
    lane: Lane,
    *,
    deadline: float,
    wake: asyncio.Event,
    is_to_go_on: Callable[[], bool],
) -> None:
    """No new sessions; the others go on to their end, for `deadline` seconds at most. What waits
    in the data plane is called in `lane`.

    `is_to_go_on` is asked at each look, which `wake` hastens.
    """
    supervisor.stopping("draining")
    handed_on = supervisor.is_there and deadline <= _SHORT
    await lane.call(partial(_stop_accepting, plane, supervisor, handed_on))
    until = time.monotonic() + deadline
    left, staying = _left(plane)
    _log.info(
        "draining; a second TERM ends it now",
        sessions=left + staying,
        deadline=format_duration(deadline),
    )
    goes_on = True
    # Those in the kernel needn't be waited for where the next process goes on with them at once.
    while (
        (left or (staying and not handed_on))
        and (goes_on := is_to_go_on())
        and time.monotonic() < until
    ):
        supervisor.extend(_EXTENSION)
        try:
            async with asyncio.timeout(_LOOK):
                await wake.wait()
        except TimeoutError:
            pass
        wake.clear()
        left, staying = _left(plane)
    why = "deadline reached" if goes_on else "told twice"
    if left:
        _log.warning("stopping with open sessions", sessions=left, in_kernel=staying, reason=why)
    elif staying:
        _log.info("stopping; sessions in the kernel go on for the next process", sessions=staying)
    else:
        _log.info("stopping, every session has ended")


def _left(plane: Plane) -> tuple[int, int]:
    """Sessions that end with the process, and those in the kernel that go on without it."""
    stats = plane.stats()
    path = stats.kernel_path
    staying = path.flows if path is not None and path.ends_with_process is None else 0
    # A flow that began or ended between the two counts is none that is left.
    return max(0, stats.active - staying), staying


def _stop_accepting(plane: Plane, supervisor: Supervisor, handed_on: bool) -> None:
    plane.drain(to_successor=handed_on)
    if not handed_on:
        supervisor.store.keep([])
