"""No server is up: clients are told to come back, and the line always reaches them."""

import socket
from collections.abc import Callable
from pathlib import Path

from harness.clients.dialogue import Address, Client
from harness.clients.smtpload import Smtpload
from harness.mailweir.run import configuration
from harness.networks.ports import refusing
from harness.scale import count
from harness.waiting import until
from scenarios.conftest import Start

_REFUSAL = f"421 4.3.2 {socket.gethostname()} "
_FLOOD = b"EHLO flood\r\n" * (64 * 1024 // 12)
_CLIENTS = count(20, 1000)
_FAST = {"every": "500ms", "fast": "100ms", "fall": 1}


def test_dead_at_the_start(tmp_path: Path, start: Start, counted: Callable[[str], None]) -> None:
    with refusing() as dead:
        balancer = start(configuration(tmp_path, {"a": dead}))
        _refuses_in_words(balancer.address())
        counted(f"{_CLIENTS} clients that listen and {_CLIENTS} that flood 64 KiB, all refused")
        assert not balancer.status()["ready"]
        # Too few being up, a server that is down is tried too: once, and then it rests.
        tried = balancer.ended("connect_failed")
        assert tried < 2 * _CLIENTS / 10
        until(lambda: balancer.ended("no_server") == 2 * _CLIENTS - tried, "all to be counted")


def test_died_later(tmp_path: Path, start: Start, smtpload: Smtpload) -> None:
    with smtpload.sink("a") as a, smtpload.sink("b") as b:
        servers = {"a": a.addresses[0], "b": b.addresses[0]}
        balancer = start(configuration(tmp_path, servers, check=_FAST))
        address = balancer.address()
        with Client(address) as client:
            client.expect("220")
            client.expect("221", "QUIT")
    until(
        # Too few are up: that they are down keeps nobody from trying them.
        lambda: balancer.server_is("a", "panic") and balancer.server_is("b", "panic"),
        "the checks to notice",
    )
    _refuses_in_words(address)


def test_died_before_a_check_notices(tmp_path: Path, start: Start, smtpload: Smtpload) -> None:
    with smtpload.sink("a") as a:
        config = configuration(tmp_path, {"a": a.addresses[0]}, check={"every": "1h"})
        balancer = start(config)
        address = balancer.address()
    _refuses_in_words(address)
    assert balancer.server_is("a", "up")
    until(lambda: balancer.ended("connect_failed") == 2 * _CLIENTS, "all to be counted")


def _refuses_in_words(address: Address) -> None:
    """One line and an end of stream, never a reset, also for those who don't listen first."""
    for first in (b"", _FLOOD):
        for _ in range(_CLIENTS):
            with Client(address) as client:
                client.send(first)
                assert client.line().startswith(_REFUSAL)
                assert client.rest() == b""
