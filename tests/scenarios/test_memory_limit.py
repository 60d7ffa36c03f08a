"""A memory limit from outside: the cap on sessions keeps the process below it."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from harness.cgroup import limited_memory
from harness.crowd import crowd
from harness.crowd_server import allow_descriptors
from harness.dialogue import Client
from harness.mailweir import configuration, mailweir
from harness.scale import count
from harness.waiting import until

_LIMIT = 160 << 20
_SESSIONS = count(500, 2000)
_MORE = 50


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
