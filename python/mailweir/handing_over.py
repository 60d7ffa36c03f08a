"""How this process gives way to the next one of an upgrade: what that inherits, and what becomes of
the sessions that are here still. Owned by the daemon.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress

import structlog

from mailweir.errors import UpgradeError
from mailweir.instance import give_back
from mailweir.intents import Intents
from mailweir.lanes import Lane
from mailweir.plane import Plane
from mailweir.process_parts import ProcessParts
from mailweir.situation import RoleTold
from mailweir.spec import Elsewhere
from mailweir.upgrade.channel import End, Go, Reopen, Serves
from mailweir.upgrade.successor import Heritage, Successor

# Seconds between two words on the sessions that are left.
_LOOK = 0.25

_log = structlog.get_logger("mailweir")


class HandingOver:
    """From the start of the next process to the last session of this one."""

    def __init__(
        self,
        parts: ProcessParts,
        intents: Intents,
        lock: int,
        *,
        role: Callable[[], RoleTold | None],
        before: Callable[[], int],
        end: Callable[[], None],
        reopen: Callable[[], None],
    ) -> None:
        """`lock` is the descriptor by which this is the only instance; `before` says how many
        sessions the process before this one has still. What the next process says is done by `end`,
        once for each time it is to end, and `reopen`.
        """
        self._parts = parts
        self._intents = intents
        self._role = role
        self._before = before
        self._end = end
        self._reopen = reopen
        self._lock = lock
        self._hearing: asyncio.Task[None] | None = None
        self._lane = Lane("upgrade")

    async def begin(self) -> Successor:
        """The next process, once it could serve. Raises UpgradeError. It is gone where nobody waits
        for it any more.
        """
        parts = self._parts
        if os.getpid() == 1:
            raise UpgradeError(
                "process 1 can't give way: a container ends with it, so restart that"
            )
        heritage = Heritage(
            lock=self._lock,
            listening=await parts.lane.call(parts.plane.listening),
            admin=parts.admin.listening(),
            stored=parts.supervisor.store.names,
        )
        environment = parts.supervisor.environment
        starting = asyncio.create_task(Successor.start(heritage, environment, self._lane))
        try:
            successor = await asyncio.shield(starting)
            _log.info("the next process begins", pid=successor.pid)
            await successor.prepared()
        except asyncio.CancelledError:
            # It has the lock, and the next start would find that taken.
            await (await starting).kill()
            raise
        return successor

    @property
    def ends_flows(self) -> bool:
        """Whether sessions in the kernel would end with this process, if there were any."""
        path = self._parts.plane.stats().kernel_path
        return path is not None and path.ends_with_process is not None

    def go(self) -> Go:
        """What it is to know when it is its turn. Raises UpgradeError where it can't be."""
        path = self._parts.plane.stats().kernel_path
        if path is not None and path.flows and path.ends_with_process is not None:
            raise UpgradeError(
                f"{path.flows} sessions in the kernel would end with it: {path.ends_with_process}"
            )
        words, told = self._parts.operator.overrides.model_dump_json(), self._role()
        return Go(words, told.role, told.by) if told else Go(words)

    async def retire(self, successor: Successor, serves: Serves) -> None:
        """Leave all to it but the sessions that are here. Returns when these have ended, or when
        the process is told to end.
        """
        parts = self._parts
        if self._intents.terminations:
            # Told while the next process was on its way: it is that which serves now.
            successor.tell(signal.SIGINT if self._intents.restarts else signal.SIGTERM)
        await self._lane.call(lambda: parts.supervisor.hand_on(successor.pid))
        give_back(self._lock)
        await parts.lane.call(parts.plane.hand_over)
        successor.released()
        left = self._left()
        _log.info("the next process serves", pid=successor.pid, sessions_left=left)
        await asyncio.gather(parts.admin.leave(serves.admin), parts.monitor.close())
        self._hearing = asyncio.create_task(self._hear(successor))
        await self._until_the_last(successor)
        if not self._intents.terminations:
            _log.info("the last session of this process has ended", next=successor.pid)

    async def _until_the_last(self, successor: Successor) -> None:
        plane = self._parts.plane
        while (left := self._left()) and not self._intents.terminations:
            successor.left(left, await self._parts.lane.call(lambda: elsewhere(plane)))
            self._intents.wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._intents.wake.wait()

    def _left(self) -> int:
        """Sessions here, and in the process before this one."""
        return self._parts.plane.stats().active + self._before()

    async def _hear(self, successor: Successor) -> None:
        while (message := await successor.hear()) is not None:
            if isinstance(message, End):
                # It may be what it was told by us.
                while self._intents.terminations < (2 if message.now else 1):
                    self._end()
            elif isinstance(message, Reopen):
                self._reopen()
        _log.warning("the next process is gone; sessions here go on", pid=successor.pid)


def elsewhere(plane: Plane) -> Elsewhere:
    """The sessions here and before, as the next process is to count them; without those in the
    kernel, which are its own by now.
    """
    listeners = ((one.name, one.places) for one in plane.stats().listeners if one.places)
    servers = ((one.pool, one.name, one.active) for one in plane.servers() if one.active)
    return Elsewhere(tuple(listeners), tuple(servers))
