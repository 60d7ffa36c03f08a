"""Has the kernel hold the floating addresses, one step after the other, and renews their lease.

Told by `agent` what the state machine wants. The lease is what takes the addresses away where this
process can't: so it is never renewed after it may have run out.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from mailweir.ha.clock import now
from mailweir.ha.kernel.addresses import AddressError, Addresses
from mailweir.ha.kernel.announce import Announcer
from mailweir.ha.machine.facts import RENEWED_EVERY, Drop, Take

_log = structlog.get_logger("mailweir")

# A lease with less left isn't renewed any more: so long may it take until the kernel does it. Above
# a tenth of a second, a pause that the peer doesn't take for death would cost the addresses.
_MARGIN = 0.1


class Holding:
    """The addresses while the process runs."""

    def __init__(
        self,
        addresses: Addresses,
        announcer: Announcer,
        *,
        lease: float,
        on_taken: Callable[[int], None],
        on_dropped: Callable[[int], None],
        on_failed: Callable[[str], None],
        before_drop: Callable[[], Awaitable[None]],
        before_renewal: Callable[[], None],
    ) -> None:
        """`before_drop` has little time. `before_renewal` may ask for a step that makes it none."""
        self._addresses = addresses
        self._announcer = announcer
        self._lease = lease
        self._on_taken = on_taken
        self._on_dropped = on_dropped
        self._on_failed = on_failed
        self._before_drop = before_drop
        self._before_renewal = before_renewal
        self._steps: asyncio.Queue[Take | Drop] = asyncio.Queue()
        self._renewed_at: float | None = None  # while they are held

    def do(self, step: Take | Drop) -> None:
        """Next, after what is under way."""
        if isinstance(step, Drop):
            self._announcer.stop()
        self._steps.put_nowait(step)

    async def work(self) -> None:
        """Until cancelled."""
        while True:
            due = None if self._renewed_at is None else self._renewed_at + RENEWED_EVERY - now()
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due)):
                    step = await self._steps.get()
            except TimeoutError:
                await self._renew()
                continue
            if isinstance(step, Take):
                await self._take(step.ticket)
            else:
                await self._drop(step.ticket)

    async def _take(self, ticket: int) -> None:
        try:
            began = now()
            await self._addresses.add()
        except AddressError as error:
            self._on_failed(str(error))
            return
        self._renewed_at = began
        self._on_taken(ticket)

    async def _drop(self, ticket: int) -> None:
        # Nothing renews them while it is waited for.
        self._renewed_at = None
        await self._before_drop()
        try:
            await self._addresses.remove()
        except AddressError as error:
            # They go with their lease; the machine waits for that.
            _log.error("addresses can't be removed", reason=str(error))
        else:
            self._on_dropped(ticket)

    async def _renew(self) -> None:
        self._before_renewal()
        began = now()
        if self._renewed_at is None or not self._steps.empty():
            return
        if began - self._renewed_at > self._lease - _MARGIN:
            self._renewed_at = None
            self._on_failed("the lease of the addresses wasn't renewed in time")
            return
        try:
            await self._addresses.renew()
            self._renewed_at = began
        except AddressError as error:
            self._renewed_at = None
            self._on_failed(str(error))
