"""Floods: of half-open connections, and of sessions that all fail. Others get through, and the
log stays small.
"""

import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from harness.crowd import crowd
from harness.dialogue import Address, Client
from harness.mailweir import Tree, configuration
from harness.needs import program
from harness.network import own_network
from harness.ports import refusing
from harness.process import run
from harness.scale import count
from harness.scripted import Stream, serving
from harness.waiting import until
from scenarios.conftest import Start

_SECONDS = count(2.0, 5.0)
_SYNS = 2000  # a second
_GOOD = count(50, 200)
_SESSIONS = count(2000, 20_000)
_SYN_RECV = "03"  # TCP_SYN_RECV in /proc/net/tcp
# In a second; a flood is a line now and then, with a number.
_MOST_LINES = 20

Counted = Callable[[str], None]


@pytest.mark.needs("iproute2")
def test_connections_that_never_complete(tmp_path: Path, start: Start, counted: Counted) -> None:
    """SYNs from sources that never answer fill the queue; SYN cookies let others through."""
    with ExitStack() as exits:
        exits.enter_context(own_network())
        # So that they have a way back, where nobody is.
        done = run([program("ip"), "route", "add", "10.0.0.0/8", "dev", "lo"])
        assert done.returncode == 0, done.stderr
        _, address = exits.enter_context(crowd(tmp_path, "polite"))
        balancer = start(configuration(tmp_path, {"a": address}))
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        where = balancer.address()
        with _syn_flood(where) as sent:
            until(lambda: sent, "the flood to begin")
            waits = sorted(_greeted_after(where) for _ in range(_GOOD))
        half_open = _half_open(where[1])
    counted(
        f"{len(sent)} SYNs, {half_open} half-open at the end; {_GOOD} clients greeted after"
        f" {waits[_GOOD // 2] * 1000:.1f} ms (median), {waits[-1] * 1000:.0f} ms at most"
    )
    assert half_open > 100, "a flood"


def test_the_log_of_a_flood_is_short(tmp_path: Path, start: Start, counted: Counted) -> None:
    """Every server fails, in all ways, and clients come as fast as they can."""
    with ExitStack() as exits:
        servers: Tree = {"refuses": exits.enter_context(refusing())}
        for name, handle in _FAILING.items():
            servers[name] = exits.enter_context(serving(handle))
        config = configuration(tmp_path, servers, check={"kind": "tcp", "every": "1s"})
        balancer = start(config)
        until(lambda: balancer.server_is("busy", "up"), "the servers to be up")
        said, began = len(balancer.process.err), time.monotonic()
        address = balancer.address()
        with ThreadPoolExecutor(16) as pool:
            told = Counter(pool.map(lambda _: _told(address), range(_SESSIONS)))
        until(lambda: balancer.status()["sessions"] == 0, "all sessions to end")
        seconds = time.monotonic() - began
        lines = len(balancer.process.err[said:].splitlines())
        ended = balancer.ended("greeting_failed") + balancer.ended("connect_failed")
        until(lambda: len(balancer.session_log()) == _SESSIONS, "each in the session log")
    counted(
        f"{_SESSIONS} sessions in {seconds:.1f} s, told {dict(told)}: {lines} lines in the log of"
        f" the process, {ended:.0f} in its metrics"
    )
    assert told == {"421": _SESSIONS}
    assert ended == _SESSIONS
    assert lines < _MOST_LINES * max(seconds, 1)


def _busy(stream: Stream) -> None:
    stream.send(b"421 4.3.2 busy\r\n")
    stream.rest()


def _nonsense(stream: Stream) -> None:
    stream.send(b"SSH-2.0-OpenSSH\r\n")
    stream.rest()


_FAILING: dict[str, Callable[[Stream], None]] = {
    "busy": _busy,
    "nonsense": _nonsense,
    "resets": Stream.reset,
    "closes": lambda _: None,
}


def _told(address: Address) -> str:
    with Client(address) as client:
        return client.line()[:3]


def _greeted_after(address: Address) -> float:
    began = time.monotonic()
    with Client(address) as client:
        client.expect("220")
        waited = time.monotonic() - began
        client.expect("221", "QUIT")
    return waited


def _half_open(port: int) -> int:
    """Connections at this port that wait for the third segment."""
    rows = map(str.split, Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:])
    return [row[3] for row in rows if row[1].endswith(f":{port:04X}")].count(_SYN_RECV)


@contextmanager
def _syn_flood(address: Address) -> Iterator[list[None]]:
    """SYNs of ever other sources, as many a second as said; what was sent so far."""
    over, sent = threading.Event(), list[None]()

    def flood() -> None:
        source = random.Random(25)  # noqa: S311 - addresses that differ, no secret
        began = time.monotonic()
        with suppress(BlockingIOError):
            while not over.is_set() and (elapsed := time.monotonic() - began) < _SECONDS:
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
