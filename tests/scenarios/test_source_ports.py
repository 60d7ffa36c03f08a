"""Ports of the balancer's own towards servers: what happens without any left, and how many wait.

In a network of the test's own, which has few ports.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness.mailweir.run import Mailweir, Tree, configuration
from harness.networks.own import ClientFrom, own_network
from harness.scale import count
from harness.servers.crowd import crowd
from harness.waiting import until
from scenarios.conftest import Start

_PORTS = 64
_CLIENTS = 100
_SHORT = count(500, 20_000)
_TIME_WAIT = "06"  # TCP_TIME_WAIT in /proc/net/tcp

Counted = Callable[[str], None]

pytestmark = pytest.mark.needs("iproute2")


def test_without_a_port_left_a_client_is_told(tmp_path: Path, start: Start) -> None:
    with _rig(tmp_path, start, {}) as (balancer, _):
        _few_ports()
        greetings = _held_together(balancer)
        assert set(greetings) == {"220", "421"}
        # Some wait for their time after a check.
        assert _PORTS - 8 < greetings["220"] <= _PORTS
        ended = balancer.ended("out_of_descriptors")
        assert ended == greetings["421"]
        assert balancer.server_is("a", "up"), "it's not the server's fault"


def test_another_server_has_ports_of_its_own(tmp_path: Path, start: Start) -> None:
    with _rig(tmp_path, start, {}, second=True) as (balancer, _):
        _few_ports()
        assert _held_together(balancer) == {"220": _CLIENTS}


def test_another_source_has_ports_of_its_own(
    tmp_path: Path, start: Start, counted: Counted
) -> None:
    with _rig(tmp_path, start, {"source": ["127.0.0.2", "127.0.0.3"]}) as (balancer, _):
        _few_ports()
        assert _held_together(balancer) == {"220": _CLIENTS}
        counted(f"{_CLIENTS} sessions at a time with {_PORTS} ports: all with two sources")


def test_the_ports_of_short_sessions_do_not_wait(
    tmp_path: Path, start: Start, counted: Counted
) -> None:
    """Who closes first waits (TIME_WAIT): towards servers that is never the balancer."""
    with _rig(tmp_path, start, {}) as (balancer, port):
        with ThreadPoolExecutor(8) as pool:
            address = balancer.address()
            list(pool.map(lambda _: _short_session(address), range(_SHORT)))
        until(lambda: balancer.status()["sessions"] == 0, "all sessions to end")
        waiting = [
            fields[1:3]
            for fields in map(str.split, Path("/proc/thread-self/net/tcp").read_text().splitlines())
            if fields[3] == _TIME_WAIT
        ]
        local = Counter(int(own.rpartition(":")[2], 16) for own, _ in waiting)
        towards = Counter(int(other.rpartition(":")[2], 16) for _, other in waiting)
        counted(
            f"{_SHORT} sessions: {towards[port]} ports towards the server wait;"
            f" {local[port]} at the server, {local[address[1]]} at the listener"
        )
        assert towards[port] <= 5, "checks close first"


@contextmanager
def _rig(
    directory: Path, start: Start, more: Tree, *, second: bool = False
) -> Iterator[tuple[Mailweir, int]]:
    """mailweir before a server with `more` settings, and that server's port."""
    with ExitStack() as exits:
        exits.enter_context(own_network())
        _, address = exits.enter_context(crowd(directory, "polite"))
        servers: Tree = {"a": {"address": address, **more}}
        if second:
            (directory / "second").mkdir()
            _, other = exits.enter_context(crowd(directory / "second", "polite"))
            servers["b"] = other
        config = configuration(directory, servers, check={"kind": "tcp", "every": "1h"})
        balancer = start(config)
        until(lambda: all(balancer.server_is(name, "up") for name in servers), "servers to be up")
        yield balancer, int(address.rpartition(":")[2])


def _few_ports() -> None:
    ports = Path("/proc/sys/net/ipv4/ip_local_port_range")
    ports.write_text(f"40000 {40000 + _PORTS - 1}")


def _held_together(balancer: Mailweir) -> Counter[str]:
    """What clients hear that stay, each with an address of its own."""
    where, heard = balancer.address(), Counter[str]()
    with ExitStack() as exits:
        for number in range(_CLIENTS):
            client = exits.enter_context(ClientFrom(f"127.1.1.{number + 1}", where))
            heard[client.line()[:3]] += 1
    until(lambda: balancer.status()["sessions"] == 0, "all sessions to end")
    return heard


def _short_session(address: tuple[str, int]) -> None:
    with ClientFrom("127.0.0.1", address) as client:
        client.expect("220")
        client.expect("250", "EHLO client.test")
        client.expect("221", "QUIT")
        assert client.rest() == b""
