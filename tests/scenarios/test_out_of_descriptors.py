"""Descriptors: none is lost, whatever becomes of sessions; and without any left, nothing spins."""

import os
import re
import resource
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from harness.clients.dialogue import Address, Client
from harness.machine.proc import descriptors
from harness.mailweir.run import Mailweir, Tree, configuration
from harness.networks.ports import refusing
from harness.scale import count
from harness.servers.crowd import connect, crowd
from harness.servers.scripted import Stream, serving
from harness.waiting import until
from scenarios.conftest import Start

_CLIENTS = 200
_KEPT = 6  # for each listener and worker
_RESET = struct.pack("ii", 1, 0)
_TICKS = os.sysconf("SC_CLK_TCK")
_FAILING = count(600, 10_000)

Counted = Callable[[str], None]


@pytest.mark.parametrize("spares", [_KEPT, 1])
def test_without_any_left_clients_are_told_and_nothing_spins(
    tmp_path: Path, start: Start, counted: Counted, spares: int
) -> None:
    """One of the descriptors that were kept back is enough for all listeners and workers."""
    with crowd(tmp_path, "polite") as (_, address), ExitStack() as exits:
        config = configuration(tmp_path, {"a": address}, check={"every": "1s"})
        for name in ("second", "third"):
            config["listeners"][name] = {"bind": ["127.0.0.1:0"], "pool": "farm"}
        balancer = start(config)
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        listening = [balancer.address(name) for name in ("mx", "second", "third")]
        kept = exits.enter_context(Client(listening[0]))
        kept.expect("220")
        with _no_descriptors(balancer, spares):
            said = len(balancer.process.err)
            clients = [exits.enter_context(connect(where)) for where in _spread(listening)]
            for client in clients[::10]:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
            used, began = _cpu(balancer), time.monotonic()
            answers = Counter(_first_line(client)[:3] for client in clients if client.fileno() >= 0)
            # However soon they were told, for some checks' time.
            until(lambda: time.monotonic() > began + 3, "three seconds to pass")
            share = (_cpu(balancer) - used) / (time.monotonic() - began)
            lines = balancer.process.err[said:].splitlines()
            kept.expect("250", "NOOP")
        released = time.monotonic()
        with Client(listening[1]) as late:
            late.expect("220")
            back = time.monotonic() - released
        counted(
            f"{_CLIENTS} clients at 3 listeners: {dict(answers)}; {share:.1%} of a core meanwhile;"
            f" {len(lines)} lines in the log; served again after {back * 1000:.0f} ms"
        )
        assert answers.keys() <= {"220", "421"}
        assert answers["421"] > _CLIENTS // 2
        assert share < 0.1
        assert len(lines) < 10
        assert balancer.server_is("a", "up"), "its checks couldn't be made: that is no verdict"


def test_none_is_lost(tmp_path: Path, start: Start, counted: Counted) -> None:
    with ExitStack() as exits:
        servers: Tree = {"refuses": exits.enter_context(refusing())}
        for name, handle in _HANDLES.items():
            servers[name] = exits.enter_context(serving(handle))
        config = configuration(tmp_path, servers, check={"kind": "tcp", "every": "1h"})
        balancer = start(config)
        until(lambda: balancer.server_is("serves", "up"), "the servers to be up")
        before = _settled(balancer)
        with ThreadPoolExecutor(16) as pool:
            address = balancer.address()
            list(pool.map(lambda number: _misbehave(address, number), range(_FAILING)))
        until(lambda: balancer.status()["sessions"] == 0, "all sessions to end")
        until(lambda: len(balancer.session_log()) >= _FAILING, "all sessions in the log")
        reasons = Counter(line["end_reason"] for line in balancer.session_log())
        # Idle pipes are kept, in a number that is bounded.
        pipes = 2 * balancer.metric("mailweir_relay_pipes")
        until(lambda: len(descriptors(balancer.pid)) <= before + pipes, "descriptors to be closed")
    counted(f"{_FAILING} sessions: {dict(reasons)}; {before} descriptors before and after")


def _says(*lines: bytes) -> Callable[[Stream], None]:
    def handle(stream: Stream) -> None:
        for line in lines:
            stream.send(line)
        stream.rest()

    return handle


def _serves(stream: Stream) -> None:
    stream.send(b"220 mx.test ESMTP\r\n")
    while line := stream.line():
        stream.send(b"221 bye\r\n" if line == b"QUIT\r\n" else b"250 fine\r\n")
        if line == b"QUIT\r\n":
            return


_HANDLES: dict[str, Callable[[Stream], None]] = {
    "busy": _says(b"421 4.3.2 busy\r\n"),
    "refuses_mail": _says(b"554 5.7.1 no\r\n"),
    "resets": Stream.reset,
    "closes": lambda _: None,
    "serves": _serves,
}


def _misbehave(address: Address, number: int) -> None:
    """Clients that leave at each step, in each way."""
    # Whatever a server does to it is fine here.
    with suppress(OSError, AssertionError), Client(address) as client:
        step, way = number % 4, number // 4 % 3
        if step > 0:
            client.expect("220")
        if step > 1:
            client.expect("250", "EHLO client.test")
        if step > 2:
            client.send(b"MAIL FROM:<a@client.test>\r\nRCPT TO:<b@server.test>\r\n")
        if way == 0:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        elif way == 1:
            client.socket.shutdown(socket.SHUT_WR)
            client.rest()


def _settled(balancer: Mailweir) -> int:
    """How many descriptors it has once that number stands still."""
    seen: list[int] = []

    def still() -> bool:
        seen.append(len(descriptors(balancer.pid)))
        time.sleep(0.05)
        return len(seen) > 10 and len(set(seen[-10:])) == 1

    until(still, "its descriptors to stand still")
    return seen[-1]


@contextmanager
def _no_descriptors(balancer: Mailweir, spares: int) -> Iterator[None]:
    """The process may open none beyond those that it has. Of those that it keeps back for this
    so many can be had again once they were given up.
    """
    limits = resource.prlimit(balancer.pid, resource.RLIMIT_NOFILE)
    opened = descriptors(balancer.pid)
    kept = sorted(number for number, what in opened.items() if what == os.devnull)[-_KEPT:]
    most = (*kept, max(opened) + 1)[spares]
    resource.prlimit(balancer.pid, resource.RLIMIT_NOFILE, (most, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(balancer.pid, resource.RLIMIT_NOFILE, limits)


def _spread(listening: list[Address]) -> list[Address]:
    return [listening[number % len(listening)] for number in range(_CLIENTS)]


def _first_line(client: socket.socket) -> str:
    with client.makefile("rb") as reader:
        return reader.readline().decode()


def _cpu(balancer: Mailweir) -> float:
    """Seconds that all threads of it have used."""
    stat = Path(f"/proc/{balancer.pid}/stat").read_text()
    fields = re.sub(r"^.*\) ", "", stat).split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
