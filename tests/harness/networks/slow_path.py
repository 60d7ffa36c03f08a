"""A long and bad way between two networks, where the kernel has no netem. Needs /dev/net/tun.

A pair of TAP devices in place of a leg, with Ethernet on both ends, or of TUN devices, whose frames
begin with an IP header; and a thread between them that holds frames back, loses, swaps and doubles
them.
"""

import fcntl
import heapq
import os
import random
import select
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Literal

from harness.needs import missing
from harness.networks.row import LEGS, Row
from harness.waiting import LIMIT

Leg = Literal["c", "s"]

_TUN = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_TAP, _IFF_NO_PI = 0x0001, 0x0002, 0x1000
_FRAME = 1 << 16
# Frames that may wait for the thread, so that it loses none that it isn't to lose.
_QUEUE = "10000"


@dataclass(frozen=True)
class Way:
    """What it does to frames, both ways alike. Shares are of one."""

    delay: float = 0.0  # seconds, each way
    lost: float = 0.0
    swapped: float = 0.0
    doubled: float = 0.0
    late: float = 0.005  # seconds, for those that let others go first
    ethernet: bool = True
    seed: int = 1


@dataclass
class Passed:
    """What it has done so far."""

    frames: int = 0
    lost: int = 0
    swapped: int = 0
    doubled: int = 0


@dataclass(order=True)
class _Due:
    """A frame on its way; those of the same moment keep their order."""

    at: float
    number: int
    out: int = field(compare=False)
    frame: bytes = field(compare=False)


class _Relay:
    """The thread between the two devices, known by their descriptors."""

    def __init__(self, way: Way, one: int, other: int) -> None:
        self._way = way
        self._across = {one: other, other: one}
        self._chance = random.Random(way.seed)  # noqa: S311 # the same again is what we want
        self._numbers = count()
        self._due: list[_Due] = []
        self.passed = Passed()

    def run(self, end: int) -> None:
        """Until `end` is readable."""
        while True:
            wait = max(self._due[0].at - time.monotonic(), 0) if self._due else None
            ready, _, _ = select.select([*self._across, end], [], [], wait)
            if end in ready:
                return
            for device in ready:
                self._take(device)
            while self._due and self._due[0].at <= time.monotonic():
                first = heapq.heappop(self._due)
                os.write(first.out, first.frame)

    def _take(self, device: int) -> None:
        """All that is there, since the device's queue is short."""
        while True:
            try:
                frame = os.read(device, _FRAME)
            except BlockingIOError:
                return
            self.passed.frames += 1
            if self._happens(self._way.lost):
                self.passed.lost += 1
                continue
            times = [time.monotonic() + self._way.delay]
            if self._happens(self._way.swapped):
                self.passed.swapped += 1
                times[0] += self._way.late
            if self._happens(self._way.doubled):
                self.passed.doubled += 1
                # Late as well: one more of the same at once is less of a surprise.
                times.append(times[0] + self._way.late)
            for at in times:
                due = _Due(at, next(self._numbers), self._across[device], frame)
                heapq.heappush(self._due, due)

    def _happens(self, share: float) -> bool:
        return self._chance.random() < share


@contextmanager
def slow_path(networks: Row, leg: Leg, way: Way) -> Iterator[Passed]:
    """Such a way between the balancer and clients or servers; begin it before the balancer."""
    if not os.path.exists(_TUN):
        missing(f"needs {_TUN}")
    name, here, there = LEGS[leg]
    networks.run("l", "ip", "link", "delete", name)
    with ExitStack() as exits:
        devices = []
        for network, device, address in (("l", name, here), (leg, "balancer", there)):
            made = networks.inside(network, partial(_device, device, way.ethernet)).result(LIMIT)
            exits.callback(os.close, made)
            devices.append(made)
            networks.run(network, "ip", "link", "set", device, "txqueuelen", _QUEUE, "up")
            networks.run(network, "ip", "address", "add", f"{address}/24", "dev", device)
        end = os.eventfd(0)
        exits.callback(os.close, end)
        relay = _Relay(way, *devices)
        thread = threading.Thread(target=relay.run, args=(end,))
        thread.start()
        exits.callback(thread.join)
        exits.callback(os.eventfd_write, end, 1)
        yield relay.passed


def _device(name: str, ethernet: bool) -> int:
    """Make a device in the network that this runs in; it lives as long as the descriptor."""
    device = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK)
    flags = (_IFF_TAP if ethernet else _IFF_TUN) | _IFF_NO_PI
    request = struct.pack("16sH22x", name.encode(), flags)
    fcntl.ioctl(device, _TUNSETIFF, request)
    return device
