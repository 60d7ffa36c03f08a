"""SYNs by the thousand, from sources that never answer: what fills the queue of new connections.

Needs root, and a network of its own (`own_network`).
"""

import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from harness.clients.dialogue import Address
from harness.needs import program
from harness.process import run

_SYNS = 2000  # a second


def lead_nowhere() -> None:
    """So that they have a way back, where nobody is."""
    done = run([program("ip"), "route", "add", "10.0.0.0/8", "dev", "lo"])
    assert done.returncode == 0, done.stderr


@contextmanager
def syn_flood(address: Address, seconds: float) -> Iterator[list[None]]:
    """SYNs of ever other sources, as many a second as said; what was sent so far."""
    over, sent = threading.Event(), list[None]()

    def flood() -> None:
        source = random.Random(25)  # noqa: S311 - addresses that differ, no secret
        began = time.monotonic()
        with suppress(BlockingIOError):
            while not over.is_set() and (elapsed := time.monotonic() - began) < seconds:
                while len(sent) < elapsed * _SYNS:
                    raw.sendto(_syn(source, address), (address[0], 0))
                    sent.append(None)
                over.wait(0.001)

    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            yield sent
            thread.join()
        finally:
            over.set()
            thread.join()


def _syn(source: random.Random, address: Address) -> bytes:
    """An IPv4 packet with a SYN (RFC 791, RFC 9293); the kernel adds the IP checksum."""
    sender = bytes([10, *source.randbytes(3)])
    target = socket.inet_aton(address[0])
    ports = struct.pack("!HH", source.randrange(1024, 65536), address[1])
    fields = (source.getrandbits(32), 0, 5 << 4, 0x02, 65535)
    segment = ports + struct.pack("!LLBBH", *fields)
    pseudo = sender + target + struct.pack("!BBH", 0, socket.IPPROTO_TCP, 20)
    checksum = _checksum(pseudo + segment + bytes(4))
    segment += struct.pack("!HH", checksum, 0)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, socket.IPPROTO_TCP, 0)
    return head + sender + target + segment


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
