"""Servers whose greeting never ends: on the relay nothing is kept of it."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from harness.clients.dialogue import Client
from harness.machine.proc import own_memory
from harness.mailweir.run import Tree, configuration
from harness.scale import count
from harness.servers.scripted import Stream, serving
from harness.waiting import until
from scenarios.conftest import Start

_SERVERS = 8
_SECONDS = count(2.0, 60.0)
_LINES = b"220-and so on, and so forth\r\n" * 2000
_READ = 1 << 18
# Of the relay's buffers, whatever they say.
_MOST = 4 << 20


def test_memory_is_flat(tmp_path: Path, start: Start, counted: Callable[[str], None]) -> None:
    """Half of the clients read, the others don't."""
    over = threading.Event()

    def endless(stream: Stream) -> None:
        with suppress(OSError):
            while not over.is_set():
                stream.send(_LINES)

    with ExitStack() as exits:
        exits.callback(over.set)
        servers: Tree = {
            f"s{number}": exits.enter_context(serving(endless)) for number in range(_SERVERS)
        }
        config = configuration(tmp_path, servers, check={"kind": "tcp", "every": "1h"})
        config["listeners"]["mx"]["forwarding"] = "relay"
        balancer = start(config)
        until(lambda: all(balancer.server_is(name, "up") for name in servers), "all to be up")
        clients = [exits.enter_context(Client(balancer.address())) for _ in range(2 * _SERVERS)]
        for client in clients:
            assert client.line().startswith("220-")
        before, passed, until_then = own_memory(balancer.pid), 0, time.monotonic() + _SECONDS
        most = before
        while time.monotonic() < until_then:
            passed += sum(len(client.socket.recv(_READ)) for client in clients[::2])
            most = max(most, own_memory(balancer.pid))
        over.set()
        counted(
            f"{_SERVERS} servers, {passed >> 20} MiB of greeting in {_SECONDS:.0f} s:"
            f" {(most - before) >> 10} KiB more at most"
        )
        assert passed > 10 << 20
        assert most - before < _MOST
