"""Heartbeats of a pair as they pass the switch: read there, or held up on their way by a relay."""

import heapq
import random
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.networks.pair import ADDRESSES, GATEWAY, NODES, Link, Node, Pair
from harness.pair.configuration import HEARTBEATS
from harness.waiting import LIMIT
from mailweir.ha.machine.wire import Message, Opener, Refused, cluster_number

_ALL = 0x0003  # linux/if_ether.h
_UDP = 17
_LONGEST = 2048
# Where a node finds the other one behind the relay, at the gateway's address.
RELAYED: dict[Node, int] = {"a": 6001, "b": 6002}


@dataclass(frozen=True)
class Passed:
    """One that passed, by the monotonic clock."""

    at: float
    message: Message


@contextmanager
def heartbeats_of(
    networks: Pair, node: Node, ha: Mapping[str, Any], link: Link = "lan"
) -> Iterator[list[Passed]]:
    """What a node sends over a link until the block ends; `ha` is that part of its file."""
    keys = {int(one): Path(file).read_bytes() for one, file in ha["keys"].items()}
    receiver = 2 - NODES.index(node)
    opener = Opener(cluster=cluster_number("mailweir"), receiver=receiver, keys=keys)
    number = 1 + sorted(ha["nodes"][node]["links"]).index(link)

    def listen() -> socket.socket:
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL))
        ear.bind((f"{node}-{link}", _ALL))
        return ear

    found: list[Passed] = []
    with networks.inside("sw", listen).result(LIMIT) as ear:

        def read(ended: threading.Event) -> None:
            while not ended.is_set():
                if select.select([ear], [], [], 0.1)[0]:
                    datagram = _datagram(*ear.recvfrom(_LONGEST))
                    if datagram:
                        _note(found, opener, datagram, number)

        with _beside(read):
            yield found


def _note(found: list[Passed], opener: Opener, datagram: bytes, link: int) -> None:
    try:
        found.append(Passed(time.monotonic(), opener.open(datagram, link=link)))
    except Refused:
        return


def _datagram(packet: bytes, origin: tuple[str, int, int, int, bytes]) -> bytes:
    """What is in a heartbeat that comes from the node; nothing for all else."""
    if origin[2] == socket.PACKET_OUTGOING or packet[0] >> 4 != 4 or packet[9] != _UDP:
        return b""
    udp = packet[(packet[0] & 0xF) * 4 :]
    port = int.from_bytes(udp[2:4])
    return udp[8:] if port in (HEARTBEATS, *RELAYED.values()) else b""


@contextmanager
def relay(networks: Pair, *, longest: float, twice: float) -> Iterator[None]:
    """Takes heartbeats to the other node: each after up to so long, so that they overtake each
    other, and this share of them a second time.
    """

    def bound(node: Node) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((GATEWAY, RELAYED[node]))
        return made

    # By the node that is found behind it.
    ends = {node: networks.inside("gw", partial(bound, node)).result(LIMIT) for node in NODES}
    chance = random.Random(1)  # noqa: S311 - the network's moods
    waiting: list[tuple[float, int, Node, bytes]] = []

    def carry(ended: threading.Event) -> None:
        count = 0
        while not ended.is_set():
            ready, _, _ = select.select(list(ends.values()), [], [], 0.01)
            for to, end in ends.items():
                if end in ready:
                    datagram = end.recv(_LONGEST)
                    for _ in range(1 + (chance.random() < twice)):
                        count += 1
                        due = time.monotonic() + chance.uniform(0, longest)
                        heapq.heappush(waiting, (due, count, to, datagram))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, to, datagram = heapq.heappop(waiting)
                sender = ends["b" if to == "a" else "a"]
                sender.sendto(datagram, (ADDRESSES[to]["lan"], HEARTBEATS))

    try:
        with _beside(carry):
            yield
    finally:
        for end in ends.values():
            end.close()


@contextmanager
def _beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """In a thread, which is told when it is to end."""
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
