"""What the client of a drained server hears: all that is due to it, then that it is to leave."""

import json
import socket
import ssl
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.run import Mailweir, Tree, configuration
from harness.programs.postfix import certificate, postfix
from harness.scale import LONG, count
from harness.servers.scripted import Stream, serving
from harness.servers.takers import Takers, mail
from harness.waiting import LIMIT, until
from scenarios.conftest import Start

_CLIENTS = count(10, 100)  # of each server
_TOLD = f"421 4.3.2 {socket.gethostname()} "
_QUIET_IN_TLS = 30.0  # seconds, not to be configured
_NAME = "mx.server.test"


def test_an_idle_session_is_told_and_ended(tmp_path: Path, start: Start) -> None:
    """As a sender's cached connection: 421 and an end of stream, no reset."""
    takers = Takers(0.0)
    with takers.server("a") as a, takers.server("b") as b, ExitStack() as exits:
        balancer = start(_config(tmp_path, {"a": a, "b": b}, quiet="200ms", spread="500ms"))
        until(lambda: takers.left("a") == 1, "the check to have left")
        clients: dict[str, list[Client]] = {"a": [], "b": []}
        for number in range(2 * _CLIENTS):
            client = exits.enter_context(Client(balancer.address()))
            clients[client.reply().split()[1]].append(client)
            _send(client, f"<{number}@client.test>")

        assert balancer.command("drain", "farm/a", "--wait").returncode == 0
        for client in clients["a"]:
            assert client.line().startswith(_TOLD)
            assert client.rest() == b""
            client.close()
        # No lost connection in the server's log.
        until(lambda: takers.left("a") == 1 + _CLIENTS, "the server to have heard QUIT of each")
        for client in clients["b"]:
            client.expect("221", "QUIT")
        assert set(takers.taken().values()) == {1}
        until(lambda: balancer.ended("drain") == _CLIENTS, "all to be counted")


@pytest.mark.needs("postfix", "openssl")
def test_postfix_hears_a_client_that_leaves(tmp_path: Path, start: Start) -> None:
    with postfix(tmp_path) as server, ExitStack() as exits:
        balancer = start(_config(tmp_path, {"a": server.address}, quiet="200ms", spread="500ms"))
        clients = [exits.enter_context(Client(balancer.address())) for _ in range(_CLIENTS)]
        for client in clients:
            client.expect("220")
            client.expect("250", "EHLO client.test")
            client.expect("250", "MAIL FROM:<sender@client.test>")
        assert balancer.command("drain", "farm/a", "--wait").returncode == 0
        for client in clients:
            assert client.line().startswith(_TOLD)
            assert client.rest() == b""
        left = " ehlo=1 mail=1 quit=1 commands=3\n"
        until(lambda: server.log.count(left) == _CLIENTS, "the end of each in its log")
        assert "lost connection" not in server.log


def test_an_answer_that_is_due_arrives_first(tmp_path: Path, start: Start) -> None:
    delay = 2.0  # seconds; ten times quiet
    with Takers(delay).server("a") as a:
        balancer = start(_config(tmp_path, {"a": a}, quiet="200ms", spread="0s"))
        with Client(balancer.address()) as client:
            client.begin_mail()
            began = time.monotonic()
            client.send(f"{mail('<due@client.test>')}\r\n".encode())
            assert balancer.command("drain", "farm/a").returncode == 0
            client.expect("250")
            assert time.monotonic() - began > delay / 2
            assert client.line().startswith(_TOLD)
            assert client.rest() == b""
        until(lambda: balancer.ended("drain") == 1, "the end to be counted")


@pytest.mark.skipif(not LONG, reason="takes 30 s, with MAILWEIR_LONG=1 alone")
@pytest.mark.needs("openssl")
def test_nothing_is_said_inside_tls(tmp_path: Path, start: Start) -> None:
    """Nobody but the two ends can say something there: an end of stream alone is left."""
    cert, key = certificate(tmp_path, _NAME)
    serving_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving_tls.load_cert_chain(cert, key)
    trusting = ssl.create_default_context(cafile=str(cert))
    heard: list[bytes] = []

    def starttls(stream: Stream) -> None:
        stream.send(b"220 mx ESMTP\r\n")
        while (command := stream.line().upper()) != b"STARTTLS\r\n":
            stream.send(b"250-mx\r\n250 STARTTLS\r\n" if command[:4] == b"EHLO" else b"221 bye\r\n")
        stream.send(b"220 go\r\n")
        with serving_tls.wrap_socket(stream.socket, server_side=True) as tls:
            inner = Stream(tls, limit=2 * _QUIET_IN_TLS)
            inner.line()
            inner.send(b"250 mx, inside\r\n")
            heard.append(inner.rest())

    with serving(starttls) as server:
        balancer = start(_config(tmp_path, {"a": server}, quiet="200ms", spread="0s"))
        with Client(balancer.address()) as client:
            client.expect("220")
            client.expect("250", "EHLO client.test")
            client.expect("220", "STARTTLS")
            # What comes on the wire beneath TLS is seen by a copy of its descriptor.
            with (
                client.socket.dup() as wire,
                trusting.wrap_socket(client.socket, server_hostname=_NAME) as tls,
            ):
                began = time.monotonic()
                tls.sendall(b"EHLO client.test\r\n")
                assert tls.recv(100) == b"250 mx, inside\r\n"
                assert _tls(balancer)
                assert balancer.command("drain", "farm/a").returncode == 0
                wire.settimeout(_QUIET_IN_TLS + LIMIT)
                assert wire.recv(100) == b""
                assert time.monotonic() - began > 0.9 * _QUIET_IN_TLS
        until(lambda: heard == [b""], "the server's end of stream")
        until(lambda: balancer.ended("drain") == 1, "the end to be counted")


def _config(directory: Path, servers: dict[str, str], *, quiet: str, spread: str) -> Tree:
    check = {"kind": "tcp", "every": "1h"}
    drain = {"quiet": quiet, "spread": spread}
    return configuration(directory, servers, check=check, drain=drain)


def _send(client: Client, key: str) -> None:
    """A mail behind the greeting; the session stays."""
    client.expect("250", "EHLO client.test")
    client.expect("250", "MAIL FROM:<sender@client.test>")
    client.expect("250", "RCPT TO:<box@server.test>")
    client.expect("354", "DATA")
    client.expect("250", mail(key))


def _tls(balancer: Mailweir) -> bool:
    """Whether the one live session is known to speak TLS."""
    answer = balancer.command("sessions", "--json")
    [session] = json.loads(answer.stdout)["sessions"]
    return bool(session["tls"])
