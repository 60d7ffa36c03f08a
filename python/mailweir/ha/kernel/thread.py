"""What the thread does that asks the kernel for `addresses`, its only caller.

One thing at a time, in the order it was asked for. Before and after each thing it reads what the
kernel has said, so it never acts on an old picture: a process that stood still for longer than a
lease finds its addresses gone, and doesn't renew them.
"""

import errno
import os
import selectors
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from mailweir.config.ha import Floating
from mailweir.errors import MailweirError, StartError
from mailweir.ha.clock import now
from mailweir.ha.kernel.frames import IP
from mailweir.ha.kernel.mirror import KernelView, Mirror
from mailweir.ha.kernel.netlink import AddressSaid, KernelMonitor, Netlink, prefixlen_of

# Seconds. What the kernel does it says at once; for IPv6 a worker of its own does so.
_SAID_LIMIT = 1.0
# Between looks at what was missed, where the kernel doesn't say it at once.
_LOOK_AGAIN = 0.5
# Of an address that isn't there (any more), and of a device.
_ABSENT = {errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENXIO}

Value = TypeVar("Value")

_log = structlog.get_logger("mailweir")


class AddressError(MailweirError):
    """The kernel doesn't do it; the message says with which address, and why."""


@dataclass(frozen=True, slots=True)
class CarrierChanged:
    """A device got or lost its link, came or went; one that is set down or gone has none."""

    dev: str
    up: bool


@dataclass(frozen=True, slots=True)
class AddressGone:
    """An address we held was removed by somebody else, or its lease is over."""

    address: IP


Event = CarrierChanged | AddressGone


class Kernel:
    """The thread's state. `changed` is called in the thread, with each new picture."""

    def __init__(
        self,
        floating: Sequence[Floating],
        lease: int,
        changed: Callable[[KernelView, list[Event]], None],
    ) -> None:
        self._floating = tuple(floating)
        self._lease = lease
        self._changed = changed
        self._mirror = Mirror(floating)
        self._view = self._mirror.view()
        self._wanted: frozenset[IP] = frozenset()
        self._work: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._ended = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._monitor: KernelMonitor | None = None
        self._broken = ""
        self._stale = False  # something was said that wasn't heard

    # For any thread.

    def submit(self, work: Callable[[], Value]) -> Future[Value]:
        """Have the thread do it."""
        future: Future[Value] = Future()
        self._work.append((work, future))
        os.eventfd_write(self._wake, 1)
        return future

    def end(self) -> None:
        """Have the thread end, after what it was given."""
        self._ended = True
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """After the thread's end."""
        self._selector.close()
        os.close(self._wake)
        if self._monitor is not None:
            self._monitor.close()
            self._netlink.close()

    # The thread.

    def run(self) -> None:
        """Until the end."""
        while not self._ended or self._work:
            for key, _ in self._selector.select(_LOOK_AGAIN if self._stale else None):
                if key.fd == self._wake:
                    os.eventfd_read(self._wake)
            self._hear()
            while self._work:
                self._do(*self._work.popleft())

    def open(self) -> None:
        """StartError: no permission."""
        self._netlink = Netlink()
        self._monitor = KernelMonitor()
        self._selector.register(self._monitor, selectors.EVENT_READ)
        if not self._netlink.may_change():
            raise StartError(
                "may not give this machine addresses: "
                "mailweir ha needs the capability CAP_NET_ADMIN"
            )
        self._look()
        self._view = self._mirror.view()
        self._changed(self._view, [])

    def clear(self) -> list[str]:
        """Remove what an earlier process left; AddressError for what the machine has for good."""
        left = [one for each in self._floating for one in self._mirror.anywhere(each.address.ip)]
        for one in left:
            if not _is_lent(one):
                dev = self._mirror.name(one.index)
                raise AddressError(
                    f"{one.ip} is to float, but {dev} has it for good. "
                    f"Take it out of the machine's own network configuration "
                    f"(and now: ip address del {one.ip}/{one.prefixlen} dev {dev})"
                )
        for one in reversed(left):
            self._take(one.index, one.ip, one.prefixlen)
        return [f"{one.ip} on {self._mirror.name(one.index)}" for one in left]

    def add(self, asked: float) -> None:
        """Have all, or none."""
        self._check()
        late = now() - asked
        if late > self._lease / 2:
            # Somebody else may have decided the same meanwhile.
            raise AddressError(f"this was decided {late:.1f} s ago: the process stood still since")
        for each in self._floating:
            there = self._mirror.there(each)
            if there and not _is_lent(there):
                raise AddressError(f"{each.address.ip}: {each.dev} has it for good already")
        try:
            for each in self._floating:
                self._lend(each)
            self._until_all_are_there()
        except AddressError:
            with suppress(AddressError):  # it would hide what was wrong first
                self.remove()
            raise
        self._wanted = self._view.held

    def renew(self) -> None:
        """A whole lease again for those that are there."""
        self._check()
        problems = []
        for each in self._floating:
            if self._mirror.there(each) is None:
                problems.append(f"{each.address.ip} isn't on {each.dev} any more")
                continue
            try:
                self._lend(each)
            except AddressError as error:
                problems.append(str(error))
        if problems:
            raise AddressError("; ".join(problems))

    def remove(self) -> None:
        """Have none."""
        self._wanted = frozenset()
        problems = []
        for each in reversed(self._floating):
            index, there = self._mirror.index(each.dev), self._mirror.there(each)
            if index is None or (there and not _is_lent(there)):
                continue
            prefixlen = there.prefixlen if there else prefixlen_of(each.address)
            try:
                self._take(index, each.address.ip, prefixlen)
            except AddressError as error:
                problems.append(str(error))
        if problems:
            raise AddressError("; ".join(problems))

    def _do(self, work: Callable[[], Any], future: Future[Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            self._hear()
            value = work()
            self._hear()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(value)

    def _hear(self) -> None:
        """Take in what was said."""
        if self._monitor is None or self._broken:
            return
        try:
            said, lost = self._monitor.heard()
            self._mirror.apply(said)
            self._stale = self._stale or lost
            if self._stale:
                # Where the kernel has no memory for the answer either, it is asked again: what is
                # known of before is good enough for the rest of a lease.
                with suppress(OSError):
                    self._look()
                    self._stale = False
        except Exception as error:
            # Leases aren't renewed any more: this node doesn't know what it has.
            self._broken = str(error) or repr(error)
            self._selector.unregister(self._monitor)
            _log.error("the kernel isn't heard any more: restart mailweir-ha", reason=self._broken)
        self._say()

    def _look(self) -> None:
        """Take in all that there is."""
        links, addresses = self._netlink.links(), self._netlink.addresses()
        self._mirror.fill(links)
        self._mirror.apply(addresses)

    def _say(self) -> None:
        view, before = self._mirror.view(), self._view
        if view == before:
            return
        self._view = view
        gone = (before.held - view.held) & self._wanted
        events: list[Event] = [AddressGone(ip) for ip in sorted(gone, key=str)]
        events += [
            CarrierChanged(dev, up)
            for dev, up in view.carrier.items()
            if (before.carrier[dev], dev in before.devices) != (up, dev in view.devices)
        ]
        self._changed(view, events)

    def _check(self) -> None:
        if self._broken:
            raise AddressError(f"the kernel can't be heard any more: {self._broken}")

    def _lend(self, each: Floating) -> None:
        index = self._mirror.index(each.dev)
        if index is None:
            raise AddressError(f"{each.address.ip}: there is no device {each.dev}")
        route = not self._mirror.has_another(each.dev, each.address)
        try:
            self._netlink.lease(index, each.address, self._lease, route=route)
        except OSError as error:
            raise AddressError(f"{each.address.ip} on {each.dev}: {_why(error, each)}") from None

    def _take(self, index: int, ip: IP, prefixlen: int) -> None:
        try:
            self._netlink.remove(index, ip, prefixlen)
        except OSError as error:
            if error.errno not in _ABSENT:
                dev = self._mirror.name(index)
                raise AddressError(f"{ip} can't be taken from {dev}: {error.strerror}") from None

    def _until_all_are_there(self) -> None:
        deadline = now() + _SAID_LIMIT
        while True:
            self._hear()
            absent = [each for each in self._floating if self._mirror.there(each) is None]
            if not absent:
                return
            left = deadline - now()
            if left <= 0 or self._broken or self._monitor is None:
                raise AddressError(f"{absent[0].address.ip} doesn't appear on {absent[0].dev}")
            with selectors.DefaultSelector() as said:
                said.register(self._monitor, selectors.EVENT_READ)
                said.select(left)


def _is_lent(one: AddressSaid) -> bool:
    return one.ours or not one.permanent


def _why(error: OSError, each: Floating) -> str:
    if error.errno == errno.EACCES and each.address.version == 6:
        setting = f"net.ipv6.conf.{each.dev}.disable_ipv6"
        return f"IPv6 is switched off there (sysctl {setting})"
    return error.strerror or str(error)
