"""Sessions that go on in the kernel: what both ends see of them, and what is known of them.

Three networks in a row, mailweir in the middle one.
"""

import hashlib
import json
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
from harness.mailweir import Mailweir, Tree, configuration
from harness.namespaces import LISTENER, SERVER, Row, bpf_files, row
from harness.needs import program
from harness.scale import count
from harness.scripted import Handle, Stream, serving
from harness.waiting import LIMIT, Value, until
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
    bpf_files()
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


def test_sessions_outlive_the_process(tmp_path: Path, start: Start, counted: Counted) -> None:
    """A process that is killed takes no session with it; the next one goes on with all of them."""
    with row() as networks, _serving(networks, _polite), ExitStack() as exits:
        with _rig(networks, tmp_path, start) as rig:
            clients = [exits.enter_context(rig.client()) for _ in range(_SESSIONS)]
            for client in clients:
                client.expect("220")
                client.expect("250", "EHLO client.test")
            until(lambda: _flows(rig.balancer) == _SESSIONS, "all to be flows")
            before = {one["id"]: one for one in _sessions(rig.balancer)}
            rig.balancer.process.kill()
        for client in clients:
            client.expect("250", "NOOP")
        with _rig(networks, tmp_path, start) as rig:
            after = {one["id"]: one for one in _sessions(rig.balancer)}
            assert after.keys() == before.keys()
            assert {one["server"] for one in after.values()} == {"a"}
            assert rig.balancer.servers()["a"]["active"] == _SESSIONS
            assert rig.balancer.status()["sessions"] == _SESSIONS
            assert rig.balancer.metric("mailweir_kernel_path_adopted_total") == _SESSIONS
            with rig.client() as another:
                another.begin_mail()
                another.expect("250", "hello\r\n.")
                another.expect("221", "QUIT")
            for client in clients:
                client.expect("250", "MAIL FROM:<a@client.test>")
                client.expect("250", "RCPT TO:<b@server.test>")
                client.expect("354", "DATA")
                client.expect("250", "hello\r\n.")
                client.expect("221", "QUIT")
                assert client.rest() == b""
                client.close()
            until(lambda: rig.balancer.status()["sessions"] == 0, "all sessions to end")
            until(lambda: len(rig.balancer.session_log()) == _SESSIONS + 1, "all in the log")
            log = {line["id"]: line for line in rig.balancer.session_log() if line["id"] in before}
    assert log.keys() == before.keys()
    for line in log.values():
        assert (line["listener"], line["pool"], line["server"]) == ("mx", "farm", "a")
        assert (line["path"], line["end_reason"], line["greeting_code"]) == (
            *("kernel", "client_quit"),
            220,
        )
        assert line["duration_ms"] > line["wait_ms"] > 0
    sizes = {(line["received_bytes"], line["sent_bytes"]) for line in log.values()}
    assert len(sizes) == 1, "all said and heard the same"
    counted(f"{_SESSIONS} sessions outlived the process: {sizes}")


@contextmanager
def _serving(networks: Row, handle: Handle) -> Iterator[None]:
    """A server in its network."""

    def bind(make: Callable[[], Value]) -> Value:
        return networks.inside("s", make).result(LIMIT)

    with serving(handle, (SERVER, _PORT), bind):
        yield


def _polite(stream: Stream) -> None:
    """Takes every mail."""
    stream.send(_GREETING)
    while line := stream.line():
        if line == b"DATA\r\n":
            stream.send(b"354 go\r\n")
            while stream.line() not in (b".\r\n", b""):
                pass
            stream.send(b"250 taken\r\n")
        elif line == b"QUIT\r\n":
            stream.send(b"221 bye\r\n")
            return
        else:
            stream.send(b"250 fine\r\n")


def _flows(balancer: Mailweir) -> float:
    return balancer.metric("mailweir_kernel_path_flows")


def _sessions(balancer: Mailweir) -> list[Tree]:
    done = balancer.command("sessions", "--json")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["sessions"])


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
