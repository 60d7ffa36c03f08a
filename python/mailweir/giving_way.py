"""The next process of an upgrade, from who asks for it to where it serves. Owned by the main loop.

`handing_over` begins it, and does what comes behind that.
"""

import asyncio
import signal
from typing import Protocol

import structlog

from mailweir.errors import MailweirError, UpgradeError
from mailweir.faults import FaultPart
from mailweir.intents import Intents
from mailweir.process_parts import ProcessParts
from mailweir.reload import answer
from mailweir.state.keeping import PATIENCE
from mailweir.upgrade.channel import Go, Serves
from mailweir.upgrade.successor import Successor, UpgradeOutcome

_log = structlog.get_logger("mailweir")


class Upgrading(Protocol):
    """How the next process is begun, and what it is told when it is its turn."""

    @property
    def ends_flows(self) -> bool:
        """Whether sessions in the kernel would end with this process."""

    async def begin(self) -> Successor:
        """One that could serve. Raises UpgradeError."""

    def go(self) -> Go:
        """What it is to know. Raises UpgradeError."""


class GivingWay:
    """One next process at a time, and who waits for it."""

    def __init__(self, intents: Intents, parts: ProcessParts, upgrading: Upgrading) -> None:
        self._intents = intents
        self._parts = parts
        self._upgrading = upgrading
        self._next: asyncio.Task[Successor] | None = None
        self._waiting: list[asyncio.Future[UpgradeOutcome]] = []
        # Whether it is told by now what counts: what is said here any more is lost.
        self.hands_over = False
        # The one that serves now instead of this process, and what it has taken.
        self.successor: tuple[Successor, Serves] | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether a next process is on its way."""
        return self._next is not None

    @property
    def ends_flows(self) -> bool:
        """Whether sessions in the kernel would end with this process."""
        return self._upgrading.ends_flows

    def begin(self, waiting: list[asyncio.Future[UpgradeOutcome]]) -> None:
        """Start one; the loop is woken when it is ready."""
        self._waiting = waiting
        self._next = asyncio.create_task(self._upgrading.begin())
        self._next.add_done_callback(lambda _: self._intents.wake.set())

    async def hand_over(self) -> bool:
        """To the one that could serve, if any; False where that went wrong. Who waits is told."""
        if self._next is None or not self._next.done():
            return True
        coming, self._next = self._next, None
        waiting, self._waiting = self._waiting, []
        successor: Successor | None = None
        try:
            successor = coming.result()
            self.hands_over = True
            await self._parts.keeping.settled(PATIENCE)
            if self._intents.terminations:
                raise UpgradeError("the process is ending")
            serves = await successor.serves(self._upgrading.go())
            # Who asks for the upgrade, and then something else, is answered by the next one.
            self._parts.admin.stop_listening()
            self.successor = successor, serves
            self._intents.wake.set()
            outcome = _done(successor)
        except Exception as error:
            self.hands_over = False
            if successor is not None:
                await successor.kill()
            if not isinstance(error, MailweirError):
                self._parts.faults.note(FaultPart.CHANGE, error)
            outcome = UpgradeOutcome(False, str(error) or repr(error))
            _log.error("the upgrade failed, this process goes on", reason=outcome.message)
        answer(waiting, outcome)
        return outcome.ok

    def tell(self, number: signal.Signals) -> None:
        """Pass a signal on to the process that serves instead of this one, if any does."""
        if self.successor is not None:
            self.successor[0].tell(number)

    async def give_up(self, why: str) -> None:
        """What is under way: this process ends, or another one serves. Who waits is told."""
        if self._next is not None:
            self._next.cancel()
            [found] = await asyncio.gather(self._next, return_exceptions=True)
            if isinstance(found, Successor):
                await found.kill()
        outcome = _done(self.successor[0]) if self.successor else UpgradeOutcome(False, why)
        answer([*self._waiting, *(self._intents.upgrades.take() or [])], outcome)


def _done(successor: Successor) -> UpgradeOutcome:
    return UpgradeOutcome(True, f"process {successor.pid} serves", successor.version)
