"""A memory limit from outside: the cap on sessions keeps the process below it."""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.clients import refused_crowd
from harness.clients.dialogue import Client
from harness.machine.cgroup import limited_memory
from harness.mailweir.run import Mailweir, configuration, mailweir
from harness.needs import program
from harness.process import running
from harness.scale import count
from harness.servers.crowd import crowd
from harness.servers.crowd_server import allow_descriptors
from harness.waiting import LIMIT, until

_LIMIT = 160 << 20
_SESSIONS = count(500, 2000)
_MORE = 50
_SMALL = (150 << 20, 320 << 20)
_ADDRESS_SPACE = 300 << 20
_RATE = count(800, 1500)  # connects a second
_SECONDS = count(3.0, 15.0)


def test_nobody_is_killed(tmp_path: Path, counted: Callable[[str], None]) -> None:
    allow_descriptors()
    with ExitStack() as exits:
        group = exits.enter_context(limited_memory(f"test-{os.getpid()}", _LIMIT))
        _, address = exits.enter_context(crowd(tmp_path, "polite"))
        config = configuration(tmp_path, {"a": address}, max_sessions=_SESSIONS)
        balancer = exits.enter_context(mailweir(tmp_path, config, group.before))
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        where = balancer.address()
        clients = [exits.enter_context(Client(where)) for _ in range(_SESSIONS)]
        for client in clients:
            client.expect("220")
            client.expect("250", "EHLO client.test")
        for _ in range(_MORE):
            with Client(where) as client:
                client.expect("421")
                client.rest()
        for client in clients:
            client.expect("250", "NOOP")
        assert balancer.ended("full") == _MORE
        assert group.killed() == 0
        counted(
            f"{_SESSIONS} sessions and {_MORE} that were refused: {group.most() >> 20} MiB at most,"
            f" of {_LIMIT >> 20} MiB; kernel memory for sockets included"
        )


@pytest.mark.parametrize("limit", _SMALL, ids=lambda limit: f"{limit >> 20}MiB")
def test_a_crowd_that_stays(tmp_path: Path, limit: int, counted: Callable[[str], None]) -> None:
    """Nobody says how many sessions there may be: so many as there is memory for."""
    allow_descriptors()
    with ExitStack() as exits:
        group = exits.enter_context(limited_memory(f"test-{os.getpid()}", limit))
        _, address = exits.enter_context(crowd(tmp_path, "polite"))
        config = configuration(tmp_path, {"a": address})
        balancer = exits.enter_context(mailweir(tmp_path, config, group.before))
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        came, most = _crowd_comes(tmp_path, balancer)
        assert group.killed() == 0
        room = balancer.status()["room"]
        assert room["by"] == f"memory: {limit >> 20} MiB of its cgroup"
        counted(
            f"{came} clients that stay, room for {room['sessions']} sessions ({room['by']}), {most}"
            f" at most: {group.most() >> 20} MiB at most; kernel memory for sockets included"
        )


def test_a_crowd_that_stays_in_a_small_address_space(
    tmp_path: Path, counted: Callable[[str], None]
) -> None:
    """Where an allocation fails the process is gone, and every session with it."""
    allow_descriptors()
    with ExitStack() as exits:
        _, address = exits.enter_context(crowd(tmp_path, "polite"))
        config = configuration(tmp_path, {"a": address})
        before = [program("prlimit"), f"--as={_ADDRESS_SPACE}:{_ADDRESS_SPACE}"]
        balancer = exits.enter_context(mailweir(tmp_path, config, before))
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        came, most = _crowd_comes(tmp_path, balancer)
        room = balancer.status()["room"]
        assert room["by"].endswith("of address space (RLIMIT_AS)")
        counted(f"{came} clients that stay, room for {room['sessions']} ({room['by']}), {most}")


def _crowd_comes(directory: Path, balancer: Mailweir) -> tuple[int, int]:
    """How many came, and how many sessions there were at most; it is well all the time, and after
    it serves whoever comes.
    """
    host, port = balancer.address()
    argv = [sys.executable, refused_crowd.__file__, "127.0.1.9", host, str(port), str(_RATE)]
    most = 0
    with running([*argv, str(_SECONDS + LIMIT)], directory, "crowd") as process:
        began = time.monotonic()
        # On a machine that has much to do it takes longer until so many came.
        while time.monotonic() < began + _SECONDS or not balancer.ended("full"):
            assert process.exit_code is None
            room = balancer.status()["room"]
            most = max(most, room["held"])
            assert most <= room["sessions"]
        process.send(signal.SIGTERM)
        process.wait()
        came = int(process.out.split()[-1])
    assert balancer.process.exit_code is None
    until(lambda: balancer.status()["sessions"] == 0, "the crowd to leave")
    with Client(balancer.address()) as client:
        client.expect("220")
        client.expect("221", "QUIT")
    return came, most
