"""The datagrams of a pair as they went by at a node, and others that somebody sends in a node's
name: for tests of what `mailweir ha` believes. Needs root.
"""

import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

from harness.networks.pair import ADDRESSES, DEVICES, NODES, Link, Node, Pair
from harness.pair.configuration import HEARTBEATS
from harness.pair.ears import heard
from harness.waiting import LIMIT
from mailweir.ha.machine.wire import Kind, Message, Opener, Refused, State, cluster_number

_IPV4 = 0x0800
_OUTGOING = 4  # PACKET_OUTGOING, linux/if_packet.h
_UDP = 8
_BUFFER = 1 << 22
_IP_HEADER = struct.Struct("!BBHHHBBH4s4s")
# Where a datagram says what it is, and what its sender is.
_KIND, _STATE = 5, 11
# What is sent is sent in bursts so far apart, in seconds.
_BURST = 0.005


@dataclass(frozen=True)
class Heartbeat:
    """One that went by; `at` is of the monotonic clock."""

    at: float
    link: Link
    outgoing: bool
    payload: bytes

    @property
    def kind(self) -> Kind:
        """What it says."""
        return Kind(self.payload[_KIND])

    @property
    def state(self) -> State:
        """What its sender says that it is."""
        return State(self.payload[_STATE])


@dataclass(frozen=True)
class Opened:
    """What the other node reads in one; `at` is of the monotonic clock."""

    at: float
    message: Message


@contextmanager
def heartbeats(networks: Pair, node: Node) -> Iterator[list[Heartbeat]]:
    """Those that come and go at a node until the block ends, in their order."""
    found: list[Heartbeat] = []
    over = Event()
    ears = {
        networks.inside(node, partial(_ear, device)).result(LIMIT): link
        for link, device in DEVICES.items()
    }
    thread = Thread(target=_hear, args=(ears, found, over))
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
        for ear in ears:
            ear.close()


def opened(
    heard: Sequence[Heartbeat], node: Node, ha: Mapping[str, Any], link: Link = "lan"
) -> list[Opened]:
    """Of those the ones that a node sent over a link; `ha` is that part of its file."""
    keys = {int(one): Path(file).read_bytes() for one, file in ha["keys"].items()}
    receiver = 2 - NODES.index(node)
    opener = Opener(cluster=cluster_number("mailweir"), receiver=receiver, keys=keys)
    number = 1 + sorted(ha["nodes"][node]["links"]).index(link)
    found = []
    for one in heard:
        if one.outgoing and one.link == link:
            with suppress(Refused):
                found.append(Opened(one.at, opener.open(one.payload, link=number)))
    return found


class Forger:
    """Sends whatever it is told in a node's name, from that node's network."""

    def __init__(self, networks: Pair, sender: Node) -> None:
        self._sender = sender
        self._receiver: Node = "b" if sender == "a" else "a"
        self._socket = networks.inside(sender, _raw).result(LIMIT)

    def send(self, payload: bytes, link: Link) -> None:
        """One to the other node's port, over a link."""
        source, target = ADDRESSES[self._sender][link], ADDRESSES[self._receiver][link]
        size = _IP_HEADER.size + _UDP + len(payload)
        addresses = socket.inet_aton(source), socket.inet_aton(target)
        head = _IP_HEADER.pack(0x45, 0, size, 0, 0, 255, socket.IPPROTO_UDP, 0, *addresses)
        udp = struct.pack("!HHHH", HEARTBEATS, HEARTBEATS, _UDP + len(payload), 0)
        self._socket.sendto(head + udp + payload, (target, 0))

    def send_all(self, what: Sequence[tuple[bytes, Link]], rate: float) -> float:
        """All of them, so many a second; how many it were, in fact."""
        began, sent = time.monotonic(), 0
        while sent < len(what):
            due = min(len(what), int((time.monotonic() - began) * rate) + 1)
            for payload, link in what[sent:due]:
                self.send(payload, link)
            sent = max(sent, due)
            time.sleep(_BURST)
        return sent / (time.monotonic() - began)

    def close(self) -> None:
        """Send no more."""
        self._socket.close()


@contextmanager
def forger(networks: Pair, sender: Node) -> Iterator[Forger]:
    """One in the name of `sender`."""
    made = Forger(networks, sender)
    try:
        yield made
    finally:
        made.close()


def _ear(device: str) -> socket.socket:
    ear = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_IPV4))
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    # What goes out is seen by those alone who listen to all protocols.
    ear.bind((device, 0x0003))
    return ear


def _raw() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


def _hear(ears: dict[socket.socket, Link], found: list[Heartbeat], over: Event) -> None:
    for ear in heard(ears, over):
        packet, (_, kind, way, *_) = ear.recvfrom(2048)
        payload = _payload(packet) if kind == _IPV4 else b""
        if payload:
            found.append(Heartbeat(time.monotonic(), ears[ear], way == _OUTGOING, payload))


def _payload(packet: bytes) -> bytes:
    """Of a heartbeat; nothing where it is something else."""
    header = (packet[0] & 0xF) * 4
    if packet[9] != socket.IPPROTO_UDP:
        return b""
    source, target, length = struct.unpack_from("!HHH", packet, header)
    ours = source == target == HEARTBEATS
    return packet[header + _UDP : header + length] if ours else b""
