"""What the thread does that has the addresses, where the kernel isn't as it should be."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Interface, IPv6Interface
from typing import TypeVar

import pytest

from harness.waiting import until
from mailweir.config.ha import Floating
from mailweir.errors import StartError
from mailweir.ha.clock import now
from mailweir.ha.kernel import thread as module
from mailweir.ha.kernel.frames import IP
from mailweir.ha.kernel.mirror import KernelView
from mailweir.ha.kernel.netlink import AddressSaid, LinkSaid, Said
from mailweir.ha.kernel.thread import AddressError, AddressGone, CarrierChanged, Event, Kernel

ETH0 = LinkSaid(2, "eth0", carrier=True, gone=False)
FIRST = Floating.model_validate({"address": "192.0.2.10/24", "dev": "eth0"})
SECOND = Floating.model_validate({"address": "192.0.2.11/24", "dev": "eth0"})

Value = TypeVar("Value")


@dataclass
class Machine:
    """A kernel of the test's own: its addresses, what it hasn't said yet, and what it refuses."""

    addresses_: dict[IP, AddressSaid] = field(default_factory=dict)
    links_: list[Said] = field(default_factory=lambda: [ETH0])
    unsaid: list[Said] = field(default_factory=list)
    loses: bool = False
    breaks: bool = False
    refuses: dict[IP, int] = field(default_factory=dict)
    may: bool = True
    refusals: int = 0  # of questions what there is, before answers

    def may_change(self) -> bool:
        return self.may

    def lease(
        self, index: int, address: IPv4Interface | IPv6Interface, seconds: int, *, route: bool
    ) -> None:
        self._refuse(address.ip)
        length = address.network.prefixlen
        said = AddressSaid(index, address.ip, length, permanent=False, ours=True, gone=False)
        self.addresses_[address.ip] = said
        self.unsaid.append(said)

    def remove(self, index: int, ip: IP, prefixlen: int) -> None:
        self._refuse(ip)
        if ip not in self.addresses_:
            raise OSError(errno.EADDRNOTAVAIL, "")
        self.take(ip)

    def take(self, ip: IP) -> None:
        one = self.addresses_.pop(ip)
        gone = AddressSaid(one.index, ip, one.prefixlen, one.permanent, one.ours, gone=True)
        self.unsaid.append(gone)

    def links(self) -> list[Said]:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return self.links_

    def addresses(self) -> list[Said]:
        return list(self.addresses_.values())

    def heard(self) -> tuple[list[Said], bool]:
        if self.breaks:
            raise OSError(errno.EBADF, "it broke")
        said, self.unsaid = self.unsaid, []
        return ([] if self.loses else said), self.loses

    def close(self) -> None:
        pass

    def _refuse(self, ip: IP) -> None:
        if ip in self.refuses:
            raise OSError(self.refuses[ip], os.strerror(self.refuses[ip]))


class Monitor:
    """Never readable: the thread hears before each thing it does."""

    def __init__(self, machine: Machine) -> None:
        self.heard = machine.heard
        self._ends = os.pipe()

    def fileno(self) -> int:
        return self._ends[0]

    def close(self) -> None:
        for end in self._ends:
            os.close(end)


class Running:
    """The thread, and what it told."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.views: list[KernelView] = []
        self.events: list[Event] = []
        self.kernel = Kernel([FIRST, SECOND], 3, self._changed)
        self.thread = threading.Thread(target=self.kernel.run)
        self.thread.start()

    def do(self, work: Callable[[], Value]) -> Value:
        return self.kernel.submit(work).result(10)

    def add(self) -> None:
        self.do(lambda: self.kernel.add(now()))

    def renew(self) -> None:
        self.do(self.kernel.renew)

    def _changed(self, view: KernelView, events: list[Event]) -> None:
        self.views.append(view)
        self.events += events


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    machine = Machine()
    monkeypatch.setattr(module, "Netlink", lambda: machine)
    monkeypatch.setattr(module, "KernelMonitor", lambda: Monitor(machine))
    made = Running(machine)
    yield made
    made.kernel.end()
    made.thread.join()
    made.kernel.close()


def test_what_was_missed_is_looked_up(running: Running) -> None:
    running.do(running.kernel.open)
    running.add()
    assert running.views[-1].held == {FIRST.address.ip, SECOND.address.ip}
    running.machine.loses = True
    running.machine.take(FIRST.address.ip)
    with pytest.raises(AddressError, match=r"192\.0\.2\.10 isn't on eth0 any more"):
        running.renew()
    assert running.views[-1].held == {SECOND.address.ip}
    assert running.events == [AddressGone(FIRST.address.ip)]


def test_what_was_missed_is_looked_up_again_where_that_fails_too(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that stands by asks the kernel for nothing: nothing else would make it look."""
    monkeypatch.setattr(module, "_LOOK_AGAIN", 0.01)
    running.do(running.kernel.open)
    running.machine.refusals = 3
    running.machine.loses = True
    running.machine.links_ = [replace(ETH0, carrier=False)]
    running.do(lambda: None)
    running.machine.loses = False
    until(lambda: running.views[-1].carrier == {"eth0": False}, "the carrier's loss to be known")
    assert running.machine.refusals == 0
    assert running.events == [CarrierChanged("eth0", up=False)]


def test_who_can_not_hear_gives_no_new_lease_but_gives_up(running: Running) -> None:
    running.do(running.kernel.open)
    running.add()
    running.machine.breaks = True
    for attempt in (running.renew, running.add):
        with pytest.raises(AddressError, match=r"can't be heard any more: .*it broke"):
            attempt()
    running.do(running.kernel.remove)
    assert not running.machine.addresses_


def test_one_that_is_refused_takes_the_others_back(running: Running) -> None:
    running.do(running.kernel.open)
    running.machine.refuses = {SECOND.address.ip: errno.ENOBUFS}
    with pytest.raises(AddressError, match=r"^192\.0\.2\.11 on eth0: No buffer space available$"):
        running.add()
    assert not running.machine.addresses_
    assert running.events == []


def test_others_are_renewed_and_removed_beside_one_that_is_refused(running: Running) -> None:
    running.do(running.kernel.open)
    running.add()
    running.machine.refuses = {FIRST.address.ip: errno.EPERM}
    with pytest.raises(AddressError, match=r"^192\.0\.2\.10 on eth0: Operation not permitted$"):
        running.renew()
    with pytest.raises(AddressError, match=r"192\.0\.2\.10 can't be taken from eth0"):
        running.do(running.kernel.remove)
    assert set(running.machine.addresses_) == {FIRST.address.ip}


def test_an_old_decision_is_not_acted_on(running: Running) -> None:
    running.do(running.kernel.open)
    with pytest.raises(AddressError, match=r"decided 2\.0 s ago: the process stood still"):
        running.do(lambda: running.kernel.add(now() - 2))
    assert not running.machine.addresses_


def test_permission_is_asked_for(running: Running) -> None:
    running.machine.may = False
    with pytest.raises(StartError, match="CAP_NET_ADMIN"):
        running.do(running.kernel.open)


def test_what_was_given_up_before_it_began_is_not_done(running: Running) -> None:
    running.do(running.kernel.open)
    gate = threading.Event()
    first = running.kernel.submit(gate.wait)
    second = running.kernel.submit(lambda: running.kernel.add(now()))
    assert second.cancel()
    gate.set()
    assert first.result(10)
    running.do(lambda: None)
    assert not running.machine.addresses_
