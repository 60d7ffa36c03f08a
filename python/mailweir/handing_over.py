"""How this process gives way to the next one of an upgrade: what that inherits, and what becomes of
the sessions that are here still. Owned by the daemon.
"""

import asyncio
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
    ) -> None:
        """`lock` is the descriptor by which this is the only instance."""
        self._parts = parts
        self._intents = intents
        self._role = role
        self._lock = lock
        self._lane = Lane("upgrade")

    async def begin(self) -> Successor:
        """The next process, once it could serve. Raises UpgradeError."""
        parts, path = self._parts, self._parts.plane.stats().kernel_path
        if path is not None and path.flows and path.ends_with_process is not None:
            raise UpgradeError(
                f"{path.flows} sessions in the kernel would end with it: {path.ends_with_process}"
            )
        heritage = Heritage(
            lock=self._lock,
            listening=await parts.lane.call(parts.plane.listening),
            admin=parts.admin.listening(),
            stored=parts.supervisor.store.names,
        )
        successor = await Successor.start(heritage, parts.supervisor.environment, self._lane)
        _log.info("the next process begins", pid=successor.pid)
        await successor.prepared()
        return successor

    def go(self) -> Go:
        """What it is to know when it is its turn."""
        words, told = self._parts.operator.overrides.model_dump_json(), self._role()
        return Go(words, told.role, told.by) if told else Go(words)

    async def retire(self, successor: Successor, serves: Serves) -> None:
        """Leave all to it but the sessions that are here. Returns when these have ended, or when
        the process is told to end.
        """
        parts = self._parts
        await self._lane.call(lambda: parts.supervisor.hand_on(successor.pid))
        give_back(self._lock)
        await parts.lane.call(parts.plane.hand_over)
        successor.released()
        left = parts.plane.stats().active
        _log.info("the next process serves", pid=successor.pid, sessions_left=left)
        await asyncio.gather(parts.admin.leave(serves.admin), parts.monitor.close())
        hearing = asyncio.create_task(self._hear(successor))
        try:
            await self._until_the_last(successor)
        finally:
            hearing.cancel()
        if not self._intents.terminations:
            _log.info("the last session of this process has ended", next=successor.pid)

    async def _until_the_last(self, successor: Successor) -> None:
        plane = self._parts.plane
        while (left := plane.stats().active) and not self._intents.terminations:
            successor.left(left, await self._parts.lane.call(lambda: elsewhere(plane)))
            self._intents.wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._intents.wake.wait()

    async def _hear(self, successor: Successor) -> None:
        while (message := await successor.hear()) is not None:
            if isinstance(message, End):
                self._intents.end()
                if message.now:
                    self._intents.end()
            elif isinstance(message, Reopen):
                self._parts.plane.reopen_logs()
        _log.warning("the next process is gone; sessions here go on", pid=successor.pid)


def elsewhere(plane: Plane) -> Elsewhere:
    """The sessions here, as the next process is to count them."""
    listeners = ((one.name, one.active) for one in plane.stats().listeners if one.active)
    servers = ((one.pool, one.name, one.active) for one in plane.servers() if one.active)
    return Elsewhere(tuple(listeners), tuple(servers))
