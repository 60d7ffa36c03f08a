"""Malformed requests by the thousand at both admin addresses: they are refused, and that is all."""

import json
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from harness.machine.proc import descriptors, own_memory
from harness.mailweir.admin_ends import (
    User,
    ask,
    connect_as,
    connect_http,
    http_port,
    open_folder,
    reset,
)
from harness.mailweir.run import Mailweir, configuration
from harness.scale import count
from harness.servers.scripted import Stream, serving
from harness.waiting import until
from scenarios.conftest import Start
from scenarios.rubbish import Rubbish

_OPERATOR = User("daemon")
_READER = User("bin")
_ROLES = {"operators": ["daemon"], "readers": ["bin"]}
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
# At a time: with those just closed they are fewer than one peer may have.
_TOGETHER = 25
# Until everything that is used has been used once.
_FIRST = 1000
# In bytes, for allocators and bounded caches. Half a KB kept of each request in a full run is more.
_SLACK = 4 << 20


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.mark.parametrize("address", ["socket", "http"])
def test_rubbish_is_refused_and_leaves_nothing(
    folder: Path, tmp_path: Path, start: Start, address: str, counted: Callable[[str], None]
) -> None:
    with serving(_greet) as server:
        config = configuration(tmp_path, {"a": server}, forwarding="relay")
        path = folder / "admin.sock"
        config["admin"] = {"socket": str(path), "http": "127.0.0.1:0", **_ROLES}
        balancer = start(config)
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        users, port = (_OPERATOR, _READER, None), http_port(balancer)

        def connect(number: int) -> socket.socket:
            return (
                connect_http(port)
                if address == "http"
                else connect_as(users[number % len(users)], path)
            )

        rubbish, statuses, number = Rubbish(25), Counter[int](), count(3000, 10_000)
        before = (0, 0)
        words = balancer.status()["operator"]
        for sent in range(0, number, _TOGETHER):
            if sent == _FIRST:
                before = _held(balancer)
            statuses += _statuses(rubbish, connect)
        until(lambda: _held(balancer)[0] <= before[0], "the descriptors to be closed")
        after = _held(balancer)
        counted(
            f"{number} requests, {dict(sorted(statuses.items()))};"
            f" memory {before[1] // 1024} -> {after[1] // 1024} KB, {after[0]} descriptors"
        )
        assert statuses.total() > number // 2
        assert not [status for status in statuses if status >= 500]
        assert "Traceback" not in balancer.process.err
        assert after[1] - before[1] < _SLACK

        answer = ask(connect(0), "GET", "/api/v1/status")
        assert json.loads(answer.body)["pid"] == balancer.pid
        assert ask(connect(0), "GET", "/readyz").body == b"ready\n"
        assert balancer.status()["operator"] == words
        assert balancer.status()["generation"] == 1
        assert len(balancer.process.err) < 10_000


def _statuses(rubbish: Rubbish, connect: Callable[[int], socket.socket]) -> Counter[int]:
    """Those of some requests, as far as they are answered before somebody who comes after them."""
    with ExitStack() as exits:
        streams = []
        for number in range(_TOGETHER):
            stream = connect(number)
            exits.callback(reset, stream)
            streams.append(stream)
            with suppress(ConnectionError):
                stream.sendall(rubbish.next())
        # Of the same peer as the first of them, and it is encoded behind what those asked for.
        assert ask(connect(0), "GET", "/metrics").status == 200
        heard = b"\n".join(map(_what_is_there, streams))
    return Counter(int(status) for status in _STATUS.findall(heard))


def _what_is_there(stream: socket.socket) -> bytes:
    stream.setblocking(False)
    pieces = []
    with suppress(BlockingIOError, ConnectionError):
        while piece := stream.recv(1 << 20):
            pieces.append(piece)
    return b"".join(pieces)


def _held(balancer: Mailweir) -> tuple[int, int]:
    """Descriptors and memory."""
    return len(descriptors(balancer.pid)), own_memory(balancer.pid)


def _greet(stream: Stream) -> None:
    stream.send(b"220 mx\r\n")
    while line := stream.line():
        stream.send(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 mx\r\n")
