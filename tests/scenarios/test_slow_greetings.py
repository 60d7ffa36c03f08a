"""Clients whose server is slow to greet: each has its two descriptors and no more."""

import json
import threading
from contextlib import ExitStack
from pathlib import Path

from harness.clients.dialogue import Client
from harness.machine.proc import descriptors
from harness.mailweir.run import Mailweir, configuration
from harness.servers.scripted import Stream, serving
from harness.waiting import until
from scenarios.conftest import Start

_CLIENTS = 50
# Beyond what a client isn't watched for, in seconds.
_WATCHED = 0.3


def test_waiting_takes_two_descriptors(tmp_path: Path, start: Start) -> None:
    greet = threading.Event()

    def slow(stream: Stream) -> None:
        greet.wait()
        stream.send(b"220 slow\r\n")
        stream.rest()

    with ExitStack() as stack:
        stack.callback(greet.set)
        server = stack.enter_context(serving(slow))
        # A check of this kind is content with a server that accepts.
        check = {"kind": "tcp", "rise": 1, "every": "1h"}
        balancer = start(configuration(tmp_path, {"a": server}, check=check))
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        before = _sockets(balancer)
        address = balancer.address()
        waiting = [stack.enter_context(Client(address)) for _ in range(_CLIENTS)]
        until(lambda: _have_waited(balancer), "all to have waited")
        assert _sockets(balancer) - before <= 2 * _CLIENTS
        greet.set()
        for client in waiting:
            client.expect("220")
            client.close()
        until(lambda: balancer.status()["sessions"] == 0, "all sessions to end")


def _have_waited(balancer: Mailweir) -> bool:
    shown = balancer.command("sessions", "--json").stdout
    ages = [one["age_seconds"] for one in json.loads(shown)["sessions"]]
    return len(ages) == _CLIENTS and min(ages) > _WATCHED


def _sockets(balancer: Mailweir) -> int:
    found = descriptors(balancer.pid).values()
    return sum(one.startswith("socket:") for one in found)
