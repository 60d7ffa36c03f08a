"""Who has a shared address: what the kernels of both nodes say of it, as it happens.

The oracle of failover tests. It hears the kernels' own messages (rtnetlink(7)), so that it sees
what lasts a millisecond, and asks nobody who is being tested. Stamps are of the monotonic clock.
"""

import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise
from threading import Event, Thread

from harness.networks.named import NamedNetworks
from harness.pair.ears import heard
from harness.waiting import LIMIT

IP = IPv4Address | IPv6Address

# linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h
_NEW, _DELETED, _ASK = 20, 21, 22
_REQUEST_DUMP = 0x301
_GROUPS = 0x10 | 0x100  # addresses of IPv4 and IPv6
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_HEADER, _ADDRESS, _ATTRIBUTE = (
    struct.Struct("=IHHII"),
    struct.Struct("=BBBBI"),
    struct.Struct("=HH"),
)
_BUFFER = 1 << 20
# Seconds. Words of two kernels that are there by the time one of them is read may be taken in the
# wrong order: one node seems to have it before the other one has let go.
_UNORDERED = 0.001


@dataclass(frozen=True)
class Change:
    """From `at` on these had it."""

    at: float
    nodes: frozenset[str]


@dataclass(frozen=True)
class Held:
    """How an address was held over a time; seconds."""

    dual: float  # more than one had it
    nobody: float
    moves: int  # times it was taken by another one than the last who took it
    changes: tuple[Change, ...]  # for a test that failed; the first is how it was at the beginning


class Holders:
    """Who has had one address so far."""

    def __init__(self, now: frozenset[str]) -> None:
        self._changes = [Change(time.monotonic(), now)]

    @property
    def now(self) -> frozenset[str]:
        """Who has it."""
        return self._changes[-1].nodes

    @property
    def only(self) -> str | None:
        """The one who has it; None where that are none or two."""
        return next(iter(self.now)) if len(self.now) == 1 else None

    def note(self, node: str, has: bool) -> None:
        """A kernel's word. One that changes nothing is a lease that was renewed."""
        nodes = self.now | {node} if has else self.now - {node}
        if nodes != self.now:
            self._changes.append(Change(time.monotonic(), nodes))

    def over(self, start: float, end: float | None = None) -> Held:
        """How it was held from `start` to `end`, or to now."""
        changes, last = self._changes[:], time.monotonic() if end is None else end
        before = [one for one in changes if one.at <= start]
        within = [one for one in changes if start < one.at < last]
        first = Change(start, before[-1].nodes if before else frozenset())
        course = [first, *within]
        dual = nobody = 0.0
        for one, after in pairwise([*course, Change(last, frozenset())]):
            both = after.at - one.at if len(one.nodes) > 1 else 0.0
            dual += both if both > _UNORDERED else 0.0
            nobody += after.at - one.at if not one.nodes else 0.0
        return Held(dual, nobody, _moves(before + within) - _moves(before), tuple(course))


def _moves(changes: Sequence[Change]) -> int:
    moves, last = 0, None
    for earlier, later in pairwise([Change(0.0, frozenset()), *changes]):
        for node in sorted(later.nodes - earlier.nodes):
            moves += last is not None and node != last
            last = node
    return moves


@contextmanager
def holders(
    networks: NamedNetworks, address: str, nodes: Sequence[str] = ("a", "b")
) -> Iterator[Holders]:
    """Watch an address in the nodes' networks until the block ends."""
    wanted, ended = ip_address(address), Event()
    ears = {networks.inside(node, _listen).result(LIMIT): node for node in nodes}
    try:
        found = Holders(frozenset())
        for ear, node in ears.items():
            found.note(node, _has(ear, wanted))
        thread = Thread(target=_watch, args=(found, ears, wanted, ended))
        thread.start()
        try:
            yield found
        finally:
            ended.set()
            thread.join()
    finally:
        for ear in ears:
            ear.close()


def _listen() -> socket.socket:
    ear = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    ear.bind((0, _GROUPS))
    return ear


def _has(ear: socket.socket, wanted: IP) -> bool:
    """Whether it is there already."""
    family = socket.AF_INET if wanted.version == 4 else socket.AF_INET6
    body = _ADDRESS.pack(family, 0, 0, 0, 0)
    ear.send(_HEADER.pack(_HEADER.size + len(body), _ASK, _REQUEST_DUMP, 1, 0) + body)
    has = False
    while True:
        for kind, payload in _messages(ear.recv(_BUFFER)):
            if kind in (_NEW, _DELETED):
                has = kind == _NEW if _address(payload) == wanted else has
            else:  # the end of the answer
                return has


def _watch(found: Holders, ears: dict[socket.socket, str], wanted: IP, ended: Event) -> None:
    for ear in heard(ears, ended):
        for kind, payload in _messages(ear.recv(_BUFFER)):
            if kind in (_NEW, _DELETED) and _address(payload) == wanted:
                found.note(ears[ear], kind == _NEW)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[_aligned(length) :]


def _address(payload: bytes) -> IP | None:
    """The address that a message is about."""
    attributes, rest = {}, payload[_ADDRESS.size :]
    while rest:
        length, kind = _ATTRIBUTE.unpack_from(rest)
        attributes[kind] = rest[_ATTRIBUTE.size : length]
        rest = rest[_aligned(length) :]
    value = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS))
    return ip_address(value) if value else None


def _aligned(length: int) -> int:
    return (length + 3) & ~3
