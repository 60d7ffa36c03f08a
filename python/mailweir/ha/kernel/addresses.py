"""The floating addresses of this node, as the kernel has them. Called by `ha.agent`.

An address is given for the length of a lease and renewed while this process is well: one that
hangs or was killed loses it by itself. Measured on Linux 6.18: the kernel takes an address 0 to
1.0 s after its lease is over (IPv4 and IPv6, leases of 2, 3 and 5 s), so nobody has it longer than
lease + 1 s after the last renewal. Adding, renewing and removing take 1 ms each.

A thread of its own asks the kernel and hears what it says (`netlink` waits). What it hears is
handed to the event loop; `held` and `lost` are what was heard last.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Thread
from typing import TypeVar

from mailweir.config.ha import Floating
from mailweir.ha.clock import now
from mailweir.ha.kernel.frames import IP
from mailweir.ha.kernel.mirror import KernelView
from mailweir.ha.kernel.thread import AddressError, AddressGone, CarrierChanged, Event, Kernel

__all__ = ["AddressError", "AddressGone", "Addresses", "CarrierChanged", "Event"]

Value = TypeVar("Value")


class Addresses:
    """All floating addresses of this node; `on_event` is called in the event loop's thread."""

    def __init__(
        self, floating: Sequence[Floating], *, lease: float, on_event: Callable[[Event], None]
    ) -> None:
        self._floating = tuple(floating)
        self._lease = round(lease)
        self._on_event = on_event
        self._running: tuple[Kernel, Thread] | None = None
        self._view = KernelView(frozenset(), {each.dev: False for each in floating}, frozenset())

    async def open(self) -> None:
        """Be ready, and hear changes from now on. StartError: no permission."""
        loop = asyncio.get_running_loop()

        def changed(view: KernelView, events: list[Event]) -> None:
            with suppress(RuntimeError):  # the event loop may have ended before us
                loop.call_soon_threadsafe(self._tell, view, events)

        kernel = Kernel(self._floating, self._lease, changed)
        thread = Thread(target=kernel.run, name="ha-addresses", daemon=True)
        thread.start()
        self._running = kernel, thread
        try:
            await self._do(Kernel.open)
        except BaseException:
            await self.close()
            raise

    async def clear(self) -> list[str]:
        """Remove what an earlier process left, and say what that was.

        AddressError where the machine has one of them for good.
        """
        return await self._do(Kernel.clear)

    async def add(self) -> None:
        """Have all of them for the length of a lease; or none, and AddressError says why.

        When it returns they are usable, IPv6 too: nobody waits for duplicates to be found.
        """
        asked = now()
        await self._do(lambda kernel: kernel.add(asked))

    async def renew(self) -> None:
        """Have all of them for a whole lease again.

        AddressError where one isn't there any more: it isn't added again by this. The others'
        leases are renewed nevertheless.
        """
        await self._do(Kernel.renew)

    async def remove(self) -> None:
        """Have none of them; those that are gone already are no error."""
        await self._do(Kernel.remove)

    def held(self) -> frozenset[IP]:
        """Those the kernel has."""
        return self._view.held

    def lost(self) -> list[str]:
        """Which devices are of no use, in words."""
        view = self._view
        return [
            f"{dev} has no carrier" if dev in view.devices else f"this machine has no device {dev}"
            for dev, up in view.carrier.items()
            if not up
        ]

    async def close(self) -> None:
        """Hear nothing more. Addresses stay, for the rest of their leases."""
        if self._running is not None:
            kernel, thread = self._running
            self._running = None
            kernel.end()
            await asyncio.to_thread(thread.join)
            kernel.close()

    async def _do(self, work: Callable[[Kernel], Value]) -> Value:
        if self._running is None:
            raise AddressError("the kernel isn't asked any more: this process ends")
        kernel, _ = self._running
        return await asyncio.wrap_future(kernel.submit(lambda: work(kernel)))

    def _tell(self, view: KernelView, events: list[Event]) -> None:
        self._view = view
        for event in events:
            self._on_event(event)
