"""Agents of HAProxy's form on servers: they drive weights, drains and caps, and their absence
changes nothing.
"""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.clients.dialogue import Client
from harness.mailweir.run import Mailweir, configuration
from harness.servers.scripted import Stream, serving
from harness.waiting import until
from scenarios.conftest import Start

_PACE = {"every": "100ms", "fast": "100ms"}


class Agent(socketserver.ThreadingTCPServer):
    """What is usual: it says its line to whoever connects, and closes."""

    allow_reuse_address = True
    daemon_threads = True
    line = "up ready 100%"

    def __init__(self) -> None:
        super().__init__(("127.0.0.2", 0), _Say)


class _Say(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Agent)
        self.request.sendall(f"{self.server.line}\n".encode())


@contextmanager
def _agent() -> Iterator[Agent]:
    with Agent() as agent:
        thread = threading.Thread(target=agent.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield agent
        finally:
            agent.shutdown()
            thread.join()


def _serve(stream: Stream) -> None:
    stream.send(b"220 mx ESMTP\r\n")
    while line := stream.line():
        stream.send(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 ok\r\n")


def test_what_agents_say_counts(tmp_path: Path, start: Start) -> None:
    with serving(_serve) as address, _agent() as agent:
        config = configuration(tmp_path, {"a": {"address": address, "weight": 40}}, check=_PACE)
        port = agent.server_address[1]
        further = {"load": {"kind": "agent", "port": port, **_PACE}}
        config["pools"]["farm"] |= {"more_checks": further, "panic": "0%"}
        balancer = start(config)

        def becomes(line: str, **keys: object) -> None:
            agent.line = line
            until(lambda: keys.items() <= balancer.servers()["a"].items(), f"what {line} says")

        becomes("up ready 100%", state="up", weight=40, max_sessions=None)
        becomes("75%", state="up", weight=30)
        becomes("drain", state="drain", weight=30)
        assert "drain (load: the agent says drain)" in balancer.command("servers").stdout
        becomes("ready 100%", state="up", weight=40)
        becomes("down#disk full", state="down")
        assert "load: down#disk full" in balancer.command("servers").stdout
        becomes("up", state="up")
        becomes("maint", state="maint")
        becomes("ready", state="up")
        becomes("maxconn:2", state="up", max_sessions=2)
        _two_get_in(balancer)
        # An operator's word stands above an agent's.
        balancer.command("weight", "farm/a", "10")
        becomes("50%", weight=10)
        balancer.command("drain", "farm/a")
        becomes("ready", state="drain")
        balancer.command("ready", "farm/a")
        balancer.command("weight", "farm/a", "100%")
        until(lambda: balancer.servers()["a"]["weight"] != 10, "the operator's weight to be gone")
        weight = balancer.servers()["a"]["weight"]
    # The agent is gone, and its servers go on as they were; that is an alarm.
    alarm = ["load: local: agent: Connection refused"]
    until(lambda: balancer.servers()["a"]["alarms"] == alarm, "the alarm")
    assert balancer.servers()["a"]["weight"] == weight


def _two_get_in(balancer: Mailweir) -> None:
    with Client(balancer.address()) as first, Client(balancer.address()) as second:
        first.expect("220 ")
        second.expect("220 ")
        with Client(balancer.address()) as third:
            third.expect("421 ")
