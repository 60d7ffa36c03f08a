"""Agents of HAProxy's form on servers: they drive weights, drains and caps, and their absence
changes nothing.
"""

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.run import Mailweir, configuration
from harness.programs.haproxy import haproxy
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


# An agent's line, and what the server then is: its state, its weight of 40, how many sessions.
_LINES = (
    ("up ready 100%", ("up", 40, 0)),
    ("75%", ("up", 30, 0)),
    ("drain, maxconn:7", ("drain", 30, 7)),
    ("ready 50%", ("up", 20, 7)),
    # HAProxy 2.6 wants the space.
    ("down #disk full", ("down", 20, 7)),
    ("up 100%", ("up", 40, 7)),
    ("maint", ("maint", 40, 7)),
    ("ready", ("up", 40, 7)),
    ("stopped", ("down", 40, 7)),
    ("up maxconn:3", ("up", 40, 3)),
)


@pytest.mark.needs("haproxy")
def test_haproxy_hears_the_same(tmp_path: Path, start: Start) -> None:
    """One agent, asked by both: what it says of its server is the same to them."""
    with serving(_serve) as address, _agent() as agent:
        config = configuration(tmp_path, {"a": {"address": address, "weight": 40}}, check=_PACE)
        port = agent.server_address[1]
        further = {"load": {"kind": "agent", "port": port, **_PACE}}
        config["pools"]["farm"] |= {"more_checks": further, "panic": "0%"}
        balancer = start(config)
        asks = f"weight 40 check inter 100ms agent-check agent-port {port} agent-inter 100ms"
        settings = ("timeout connect 1s", "timeout server 11m", f"default-server {asks}")
        with haproxy(tmp_path, {"a": address}, settings) as other:
            for line, means in _LINES:
                agent.line = line
                _becomes(lambda: _ours(balancer), means, f"{line} to mailweir")
                _becomes(lambda: other.told_by_agent("a"), means, f"{line} to HAProxy")


_Told = tuple[str, int, int]


def _becomes(told: Callable[[], _Told], means: _Told, what: str) -> None:
    until(lambda: told() == means, f"{what} to mean {means}")


def _ours(balancer: Mailweir) -> tuple[str, int, int]:
    a = balancer.servers()["a"]
    return a["state"], a["weight"], a["max_sessions"] or 0


def _two_get_in(balancer: Mailweir) -> None:
    with Client(balancer.address()) as first, Client(balancer.address()) as second:
        first.expect("220 ")
        second.expect("220 ")
        with Client(balancer.address()) as third:
            third.expect("421 ")
