"""A reload takes back what checks, agents and ejections have said that doesn't count any more."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.clients.dialogue import Address, Client
from harness.mailweir.run import Tree, configuration
from harness.servers.scripted import Stream, serving
from harness.waiting import until
from scenarios.conftest import Start

_PACE = {"every": "100ms", "fast": "100ms", "rise": 1, "fall": 1}


def _full(stream: Stream) -> None:
    """It has no room for mail."""
    stream.send(b"220 mx ESMTP\r\n")
    while line := stream.line():
        match line[:4].upper():
            case b"QUIT":
                stream.send(b"221 bye\r\n")
            case b"RCPT":
                stream.send(b"452 4.3.1 full\r\n")
            case _:
                stream.send(b"250 ok\r\n")


def _agent(stream: Stream) -> None:
    stream.send(b"up 50% maxconn:7\n")


@contextmanager
def _configured(folder: Path) -> Iterator[Tree]:
    """A pool whose server has a full disk, and an agent that wants less for it."""
    with serving(_full) as address, serving(_agent) as agent:
        config = configuration(folder, {"a": address}, check=_PACE)
        disk = {"kind": "rcpt", "rcpt_to": "a@b.test", **_PACE}
        load = {"kind": "agent", "port": int(agent.rpartition(":")[2]), **_PACE}
        config["pools"]["farm"] |= {"panic": "0%", "more_checks": {"disk": disk, "load": load}}
        yield config


@pytest.mark.parametrize("how", ["removed", "alarm"])
def test_a_check_that_decides_no_more(tmp_path: Path, start: Start, how: str) -> None:
    with _configured(tmp_path) as config:
        balancer = start(config)

        def is_so(**keys: object) -> bool:
            return keys.items() <= balancer.servers()["a"].items()

        until(lambda: is_so(state="drain", weight=50, max_sessions=7), "what both say")
        checks = config["pools"]["farm"]["more_checks"]
        if how == "removed":
            checks.clear()
        else:
            for check in checks.values():
                check["decides"] = "alarm"
        balancer.change(config)
        assert is_so(state="up", weight=100, max_sessions=None)


def test_a_check_that_decides_from_now_on(tmp_path: Path, start: Start) -> None:
    with _configured(tmp_path) as config:
        disk = config["pools"]["farm"]["more_checks"]["disk"]
        disk["decides"] = "alarm"
        balancer = start(config)
        until(lambda: balancer.servers()["a"]["alarms"], "the alarm")
        assert balancer.server_is("a", "up")
        disk["decides"] = "state"
        balancer.change(config)
        assert balancer.server_is("a", "drain")


def test_an_ejected_server_whose_address_changes(tmp_path: Path, start: Start) -> None:
    """It is another machine, which nothing is held against."""

    def refuse(stream: Stream) -> None:
        stream.send(b"554 no\r\n")
        stream.rest()

    with serving(refuse) as bad, serving(_full) as good, serving(_full) as other:
        # By `tcp` it passes.
        check = {"kind": "tcp", "every": "500ms", "fast": "100ms"}
        config = configuration(tmp_path, {"a": bad, "b": other}, check=check)
        balancer = start(config)

        def is_ejected() -> bool:
            _come(balancer.address())
            return balancer.server_is("a", "ejected")

        until(is_ejected, "the ejection")
        config["pools"]["farm"]["servers"]["a"]["address"] = good
        balancer.change(config)
        until(lambda: balancer.server_is("a", "up"), "it to be used")
        told = balancer.command("events").stdout
        assert 'server used again server=farm/a reason="its address changed"' in told


def _come(address: Address) -> None:
    with Client(address) as client:
        assert client.line().startswith("220")
        client.expect("221", "QUIT")
