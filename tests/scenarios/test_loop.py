"""A server that is mailweir itself, by an address of the machine and a port that it binds at all of
them: one connect used to become thousands of sessions.
"""

from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.run import COMMAND, configuration, run_to_end
from harness.needs import program
from harness.networks.own import own_network
from harness.process import run
from harness.waiting import until
from scenarios.conftest import Start

_OWN = "192.0.2.77"
_PORT = 2525

pytestmark = pytest.mark.needs("iproute2")


def _address(what: str) -> None:
    done = run([program("ip"), "address", what, f"{_OWN}/32", "dev", "lo"])
    assert done.returncode == 0, done.stderr


def test_it_is_refused_and_never_dialled(tmp_path: Path, start: Start) -> None:
    config = configuration(tmp_path, {"a": f"{_OWN}:{_PORT}"}, check={"kind": "tcp", "every": "1h"})
    config["listeners"]["mx"]["bind"] = [f"0.0.0.0:{_PORT}"]
    itself = f"{_OWN}:{_PORT} is this process itself: listener `mx` binds 0.0.0.0:{_PORT}"
    with own_network():
        # Not the machine's yet: a virtual address, say. In a panic it is tried all the same.
        balancer = start(config)
        _address("add")
        with Client(("127.0.0.1", _PORT)) as client:
            client.expect("421")
            client.rest()
        until(balancer.session_log, "the session in the log")
        assert balancer.session_log()[0]["tried"] == ["a: connect loop"]
        name = "mailweir_server_connect_failures_total"
        assert balancer.metric(name, server="a", reason="loop") >= 1
        # It and what its checks make of it.
        accepted = balancer.metric("mailweir_listener_connections_total", listener="mx")
        assert accepted < 5
        refused = balancer.command("reload")
        assert refused.returncode == 78
        assert itself in balancer.process.err
        for ended in (
            run([*COMMAND, "check", "-c", balancer.file]),
            run_to_end(balancer.file),
        ):
            assert ended.returncode == 78
            assert itself in ended.stderr
