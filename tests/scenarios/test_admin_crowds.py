"""Clients that hold connections and say little: they use up a share of their own and no more."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from harness.machine.proc import descriptors
from harness.mailweir.admin_ends import (
    User,
    ask,
    connect_as,
    connect_http,
    http_port,
    open_folder,
    reset,
)
from harness.mailweir.run import configuration
from harness.servers.scripted import Stream, serving
from harness.waiting import until
from mailweir.admin.door import MOST, MOST_OF_PEER
from scenarios.conftest import Start

_STRANGER = User("nobody")
_OPERATOR = User("daemon")
# What a slow client has said so far: nothing, or a piece of a head.
_SAID = (
    b"",
    b"GET /heal",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: a\r\n",
)
# Of the other descriptors that come and go: checks, a command's connection.
_OTHERS = 10


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


def test_one_user_keeps_nobody_out(folder: Path, tmp_path: Path, start: Start) -> None:
    with serving(_greet) as server, ExitStack() as exits:
        path = folder / "admin.sock"
        admin = {"socket": str(path), "http": "off", "operators": ["daemon"]}
        config = configuration(tmp_path, {"a": server}, forwarding="relay") | {"admin": admin}
        balancer = start(config)
        before = len(descriptors(balancer.pid))
        slow = _crowd(exits, lambda: connect_as(_STRANGER, path))
        assert ask(connect_as(_OPERATOR, path), "POST", "/api/v1/reload").status == 200
        assert balancer.status()["listeners"]
        assert len(descriptors(balancer.pid)) - before <= MOST_OF_PEER + _OTHERS
        refused = balancer.metric("mailweir_admin_refusals_total", reason="connections")
        assert refused == len(slow) - MOST_OF_PEER
        until(
            lambda: len(descriptors(balancer.pid)) <= before + _OTHERS, "the slow ones to be ended"
        )


def test_one_address_keeps_no_other_out(folder: Path, tmp_path: Path, start: Start) -> None:
    with serving(_greet) as server, ExitStack() as exits:
        admin = {"socket": str(folder / "admin.sock"), "http": "127.0.0.1:0"}
        config = configuration(tmp_path, {"a": server}, forwarding="relay") | {"admin": admin}
        balancer = start(config)
        before, port = len(descriptors(balancer.pid)), http_port(balancer)
        _crowd(exits, lambda: connect_http(port))
        assert ask(connect_http(port), "GET", "/healthz").status == 429
        assert ask(connect_http(port, "127.0.0.2"), "GET", "/healthz").status == 200
        assert balancer.status()["listeners"]
        for last in range(3, 8):
            source = f"127.0.0.{last}"
            _crowd(exits, partial(connect_http, port, source))
        # All together have a share as well, and the socket has its own.
        assert ask(connect_http(port, "127.0.0.2"), "GET", "/healthz").status == 429
        assert balancer.status()["listeners"]
        assert len(descriptors(balancer.pid)) - before <= MOST + _OTHERS
        until(
            lambda: len(descriptors(balancer.pid)) <= before + _OTHERS, "the slow ones to be ended"
        )
        assert ask(connect_http(port), "GET", "/healthz").status == 200


def _crowd(exits: ExitStack, connect: Callable[[], socket.socket]) -> list[socket.socket]:
    """More than there is a place for, all of one peer, each of which has begun to say something."""
    streams = []
    for number in range(2 * MOST_OF_PEER):
        stream = connect()
        exits.callback(reset, stream)
        with suppress(ConnectionError):
            stream.sendall(_SAID[number % len(_SAID)])
        streams.append(stream)
    return streams


def _greet(stream: Stream) -> None:
    stream.send(b"220 mx\r\n")
    while line := stream.line():
        stream.send(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 mx\r\n")
