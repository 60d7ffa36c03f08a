"""smtps and tcp listeners: bytes go through untouched, and a refusal has no bytes at all."""

import hashlib
import os
import socket
import ssl
import threading
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.run import configuration
from harness.networks.ports import refusing
from harness.programs.postfix import certificate
from harness.scale import count
from harness.servers.echo import GREETING, echoing
from harness.waiting import until
from scenarios.conftest import Start

_BYTES = count(4, 64) * 1024 * 1024
_PIECE = 64 * 1024
_REFUSALS = count(20, 1000)


def test_tcp_carries_any_bytes_both_ways(tmp_path: Path, start: Start) -> None:
    data = os.urandom(_BYTES)
    with echoing() as server:
        balancer = start(configuration(tmp_path, {"a": server}, protocol="tcp"))
        with Client(balancer.address()) as client:

            def send() -> None:
                client.send(data)
                client.socket.shutdown(socket.SHUT_WR)

            sender = threading.Thread(target=send)
            sender.start()
            back = client.rest()
            sender.join()
    assert len(back) == len(data)
    assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()


@pytest.mark.needs("openssl")
def test_smtps_leaves_tls_to_the_ends(tmp_path: Path, start: Start) -> None:
    name = "mx.server.test"
    cert, key = certificate(tmp_path, name)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(cert, key)
    trusting = ssl.create_default_context(cafile=str(cert))
    with echoing(serving) as server:
        balancer = start(configuration(tmp_path, {"a": server}, protocol="smtps"))
        with (
            Client(balancer.address()) as client,
            # Fails where anybody but the server answers: only it has the key.
            trusting.wrap_socket(client.socket, server_hostname=name) as tls,
            tls.makefile("rwb") as stream,
        ):
            assert stream.read(len(GREETING)) == GREETING
            for _ in range(_BYTES // _PIECE):
                piece = os.urandom(_PIECE)
                stream.write(piece)
                stream.flush()
                assert stream.read(_PIECE) == piece


@pytest.mark.parametrize("protocol", ["smtps", "tcp"])
def test_a_refusal_is_a_clean_end_without_bytes(
    tmp_path: Path, start: Start, protocol: str
) -> None:
    with refusing() as dead:
        config = configuration(tmp_path, {"a": dead}, protocol=protocol)
        config["pools"]["farm"]["panic"] = "0%"
        balancer = start(config)
        for first in (b"", os.urandom(_PIECE)):
            for _ in range(_REFUSALS):
                with Client(balancer.address()) as client:
                    client.send(first)
                    assert client.rest() == b""
        until(lambda: balancer.ended("no_server") == 2 * _REFUSALS, "all to be counted")
