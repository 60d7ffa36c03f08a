"""Sessions that go on in the kernel: what both ends see of them, and what is known of them.

Three networks in a row, mailweir in the middle one.
"""

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from harness.dialogue import Client
from harness.mailweir import Mailweir, configuration
from harness.namespaces import LISTENER, SERVER, Row, row
from harness.needs import program
from harness.scale import count
from harness.waiting import LIMIT, until
from scenarios.conftest import Start

_SESSIONS = count(3, 30)
_PORT = 2525
_GREETING = b"220 mx.server.test ESMTP\r\n"

Counted = Callable[[str], None]

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


@dataclass(frozen=True)
class Rig:
    """mailweir in its network, before servers in another one."""

    networks: Row
    balancer: Mailweir

    def client(self) -> Client:
        """Connected to mailweir from the clients' network."""
        found = self.networks.inside("c", lambda: Client((LISTENER, _PORT)))
        return found.result(LIMIT)


@contextmanager
def _rig(networks: Row, directory: Path, start: Start, **more: object) -> Iterator[Rig]:
    check = {"kind": "tcp", "every": "1h"}
    config = configuration(directory, {"a": f"{SERVER}:{_PORT}"}, check=check)
    config |= {"forwarding": "kernel", **more}
    config["listeners"]["mx"]["bind"] = [f"{LISTENER}:{_PORT}"]
    before = [program("nsenter"), f"--net=/run/netns/{networks.name('l')}"]
    balancer = start(config, before)
    until(lambda: balancer.server_is("a", "up"), "the server to be up")
    yield Rig(networks, balancer)


@pytest.mark.parametrize(("size", "loss"), [(8 << 20, 0), (1 << 20, 1), (1 << 18, 5)])
def test_bytes_arrive_as_they_were_sent(
    tmp_path: Path, start: Start, counted: Counted, size: int, loss: int
) -> None:
    with row() as networks, ExitStack() as exits:
        server = exits.enter_context(_listening(networks))
        with _rig(networks, tmp_path, start) as rig:
            server.accept()[0].close()  # the one check's
            if loss:
                networks.lose(loss)
            for _ in range(_SESSIONS):
                serving = networks.inside("s", partial(_echo, server))
                exchange = networks.inside("c", partial(_exchange, size))
                assert exchange.result(LIMIT), "the same bytes came back"
                serving.result(LIMIT)
            until(lambda: len(rig.balancer.session_log()) == _SESSIONS, "all in the log")
            log = rig.balancer.session_log()
            counted(f"{_SESSIONS} sessions of {size} bytes each way, {loss} % lost: byte-exact")
    sizes = {(line["received_bytes"], line["sent_bytes"]) for line in log}
    told = 20 * len(b"NOOP\r\n")
    assert sizes == {(size + told, len(_GREETING) + size + told)}
    assert {line["path"] for line in log} == {"kernel"}
    assert {line["end_reason"] for line in log} == {"client_closed"}


def _listening(networks: Row) -> socket.socket:
    def listen() -> socket.socket:
        found = socket.create_server((SERVER, _PORT), backlog=100)
        found.settimeout(LIMIT)
        return found

    return networks.inside("s", listen).result(LIMIT)


def _echo(listening: socket.socket) -> None:
    """A server that greets and says again whatever it hears."""
    with listening.accept()[0] as stream:
        stream.sendall(_GREETING)
        while piece := stream.recv(1 << 18):
            stream.sendall(piece)


def _exchange(size: int) -> bool:
    """A client that waits for the greeting, then says much and at last little."""
    with socket.create_connection((LISTENER, _PORT), LIMIT) as stream:
        assert stream.recv(100) == _GREETING
        said, heard = os.urandom(size), hashlib.sha256()
        sender = threading.Thread(target=stream.sendall, args=(said,))
        sender.start()
        left = size
        while left:
            piece = stream.recv(min(left, 1 << 18))
            assert piece, "an early end"
            heard.update(piece)
            left -= len(piece)
        sender.join()
        for _ in range(20):
            stream.sendall(b"NOOP\r\n")
            assert stream.recv(100) == b"NOOP\r\n"
        stream.shutdown(socket.SHUT_WR)
        assert stream.recv(1) == b""
    return heard.digest() == hashlib.sha256(said).digest()
