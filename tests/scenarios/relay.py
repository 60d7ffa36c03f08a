"""Heartbeats of a pair, held up on their way by a relay at the gateway."""

import heapq
import random
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from harness.networks.pair import ADDRESSES, GATEWAY, NODES, Node, Pair
from harness.pair.configuration import HEARTBEATS
from harness.waiting import LIMIT

_LONGEST = 2048
# Where a node finds the other one behind the relay, at the gateway's address.
RELAYED: dict[Node, int] = {"a": 6001, "b": 6002}


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

    ended = threading.Event()

    def carry() -> None:
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

    thread = threading.Thread(target=carry)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        for end in ends.values():
            end.close()
