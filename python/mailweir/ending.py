"""How the process ends: it drains, until its sessions have ended or the deadline is there.

Called by the daemon, once its main loop is over.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from mailweir.config.units import format_duration
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
    *,
    deadline: float,
    wake: asyncio.Event,
    is_to_go_on: Callable[[], bool],
) -> None:
    """No new sessions; the others go on to their end, for `deadline` seconds at most.

    `is_to_go_on` is asked at each look, which `wake` hastens.
    """
    supervisor.stopping("draining")
    await asyncio.to_thread(_stop_accepting, plane, supervisor, deadline)
    until = time.monotonic() + deadline
    left = plane.stats().active
    _log.info(
        "draining; a second TERM ends it now", sessions=left, deadline=format_duration(deadline)
    )
    while left and (goes_on := is_to_go_on()) and time.monotonic() < until:
        supervisor.extend(_EXTENSION)
        try:
            async with asyncio.timeout(_LOOK):
                await wake.wait()
        except TimeoutError:
            pass
        wake.clear()
        left = plane.stats().active
    if left:
        why = "deadline reached" if goes_on else "told twice"
        _log.warning("stopping with open sessions", sessions=left, reason=why)
    else:
        _log.info("stopping, every session has ended")


def _stop_accepting(plane: Plane, supervisor: Supervisor, deadline: float) -> None:
    handed_on = supervisor.is_there and deadline <= _SHORT
    plane.drain(to_successor=handed_on)
    if not handed_on:
        supervisor.store.keep([])
