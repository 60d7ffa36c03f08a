"""Panic: where checks say that most servers are down, these are tried too. What is dead in truth
costs hardly anybody anything, and what sessions meet doesn't take the last server out of use.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness.clients.dialogue import Address, Client
from harness.clients.sources import BUSY, IN, answer
from harness.mailweir.run import Mailweir, Tree, configuration
from harness.networks.ports import refusing
from harness.scale import count
from harness.servers.scripted import Stream, serving
from harness.waiting import LIMIT, until
from scenarios.conftest import Start

_CHECK = {"every": "500ms", "fast": "100ms", "rise": 1, "fall": 1}
_SESSIONS = count(60, 600)
_REST = 10.0  # seconds
_NOTICEABLE = 0.1  # seconds
# A PROXY header, version 2: its fixed part, where the command is in that, and that of a check.
_FIXED, _COMMAND, _LOCAL = 16, 12, 0x20

Counted = Callable[[str], None]


class _Server:
    """It tells checks from sessions by their PROXY headers, and serves either or not."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.serves_checks = self.serves_sessions = True
        self.tried = 0
        self._lock = threading.Lock()

    def serve(self, stream: Stream) -> None:
        head = _exactly(stream, _FIXED)
        _exactly(stream, int.from_bytes(head[-2:]))
        is_check = head[_COMMAND] == _LOCAL
        if not is_check:
            with self._lock:
                self.tried += 1
        if not (self.serves_checks if is_check else self.serves_sessions):
            stream.send(b"421 4.3.2 busy.test busy\r\n")
            stream.rest()
            return
        stream.send(f"220 {self.name} ESMTP\r\n".encode())
        for line in iter(stream.line, b""):
            leaves = line.upper().startswith(b"QUIT")
            stream.send(b"221 bye\r\n" if leaves else b"250 ok\r\n")


@pytest.mark.parametrize("balance", ["least_conn", "round_robin", "source_hash"])
def test_servers_that_only_checks_refuse(
    tmp_path: Path, start: Start, counted: Counted, balance: str
) -> None:
    """They take sessions as if they were up, and whoever looks is told why."""
    with _farm(tmp_path, start, balance=balance) as (balancer, servers):
        for name in "bc":
            servers[name].serves_checks = False
        until(lambda: _states(balancer) == ["up", "panic", "panic"], "panic")
        assert balancer.metric("mailweir_pool_panic", pool="farm") == 1
        said = "pool farm: panic: 1 of 3 servers is up, those that are down are tried too"
        assert said in balancer.command("status").stdout.splitlines()
        assert balancer.status()["ready"]
        assert _logged(balancer, "panic: servers that are down are tried too") == 1

        where = Counter(_sources_come(balancer.address()))
        counted(f"{balance}, 1 of 3 up: {_SESSIONS} sessions at {dict(where)}")
        assert where.keys() == {"a", "b", "c"}
        assert min(where.values()) >= _SESSIONS // 6
        if balance == "round_robin":
            assert set(where.values()) == {_SESSIONS // 3}

        servers["b"].serves_checks = True
        until(lambda: _states(balancer) == ["up", "up", "drain"], "the panic to be over")
        assert balancer.metric("mailweir_pool_panic", pool="farm") == 0
        assert _logged(balancer, "panic is over") == 1
        assert set(_sources_come(balancer.address())) == {"a", "b"}


def test_what_is_dead_is_tried_now_and_then(tmp_path: Path, start: Start, counted: Counted) -> None:
    """Once, and again after a rest, whatever is reloaded meanwhile."""
    with ExitStack() as exits:
        dead = {name: exits.enter_context(refusing()) for name in "bc"}
        balancer, _ = exits.enter_context(_farm(tmp_path, start, dead))
        config = _configuration(tmp_path, balancer, dead)
        until(lambda: _states(balancer) == ["up", "panic", "panic"], "panic")
        waits, seen = list[float](), dict[tuple[int, int], float]()
        while (tries := _tries_in_vain(balancer)) != (2, 2):
            waits.append(_greeted_after(balancer.address()))
            seen.setdefault(tries, time.monotonic())
            if len(waits) % 50 == 0:
                config["listeners"]["mx"]["max_age"] = f"{1 + len(waits) // 50 % 2}h"
                balancer.change(config)
            assert time.monotonic() < seen[min(seen)] + _REST + LIMIT
        rest = time.monotonic() - seen[(1, 1)]
        waits.sort()
        counted(
            f"1 of 3 up, the others dead: tried again after {rest:.2f} s; meanwhile {len(waits)}"
            f" sessions, greeted after {waits[len(waits) // 2] * 1000:.1f} ms (median),"
            f" {waits[-1] * 1000:.0f} ms at most"
        )
        assert _REST - 0.5 < rest
        assert waits[len(waits) * 99 // 100] < _NOTICEABLE


def test_sessions_take_no_last_server_out(tmp_path: Path, start: Start, counted: Counted) -> None:
    """It passes its checks and takes no sessions: it is tried each time, until it does."""
    with ExitStack() as exits:
        dead = {name: exits.enter_context(refusing()) for name in "bc"}
        balancer, servers = exits.enter_context(_farm(tmp_path, start, dead))
        until(lambda: _states(balancer) == ["up", "panic", "panic"], "panic")
        address, server = balancer.address(), servers["a"]
        server.serves_sessions = False
        said = Counter(answer(address, "127.0.0.1") for _ in range(_SESSIONS))
        counted(f"a server that says 421 to sessions alone: {said}, tried {server.tried} times")
        assert said == {BUSY: _SESSIONS}
        assert server.tried == _SESSIONS
        assert _states(balancer) == ["up", "panic", "panic"]
        server.serves_sessions = True
        assert answer(address, "127.0.0.1") == IN


def _configuration(directory: Path, balancer: Mailweir, dead: dict[str, str]) -> Tree:
    """As it is."""
    address = balancer.servers()["a"]["address"]
    return _written(directory, {"a": address, **dead}, "round_robin")


def _written(directory: Path, servers: dict[str, str], balance: str) -> Tree:
    where = {name: {"address": one, "proxy": "v2"} for name, one in servers.items()}
    config = configuration(directory, where, balance=balance, check=_CHECK, workers=4)
    config["pools"]["farm"]["slow_start"] = "0s"
    return config


@contextmanager
def _farm(
    directory: Path, start: Start, dead: dict[str, str] | None = None, balance: str = "round_robin"
) -> Iterator[tuple[Mailweir, dict[str, _Server]]]:
    """Three servers that are up, but for those that are dead."""
    servers = {name: _Server(name) for name in "abc" if name not in (dead or {})}
    with ExitStack() as exits:
        where = {name: exits.enter_context(serving(one.serve)) for name, one in servers.items()}
        balancer = start(_written(directory, where | (dead or {}), balance))
        until(lambda: all(balancer.server_is(name, "up") for name in servers), "them to be up")
        yield balancer, servers


def _states(balancer: Mailweir) -> list[str]:
    servers = balancer.servers()
    return [servers[name]["state"] for name in "abc"]


def _tries_in_vain(balancer: Mailweir) -> tuple[int, int]:
    servers = balancer.servers()
    return servers["b"]["connect_failures"], servers["c"]["connect_failures"]


def _logged(balancer: Mailweir, event: str) -> int:
    return balancer.process.err.count(event)


def _sources_come(address: Address) -> list[str]:
    """Of ever other sources, one after the other; where each was."""
    return [_greeted_by(address, f"127.0.11.{1 + n % 250}") for n in range(_SESSIONS)]


def _greeted_by(address: Address, source: str) -> str:
    with Client(address, host=source) as client:
        said = client.line()
        assert said.startswith(IN), said
        client.expect("221", "QUIT")
    return said.split()[1]


def _greeted_after(address: Address) -> float:
    began = time.monotonic()
    with Client(address) as client:
        client.expect("220")
        waited = time.monotonic() - began
        client.expect("221", "QUIT")
    return waited


def _exactly(stream: Stream, size: int) -> bytes:
    """So many bytes, before anything is read by line."""
    data = b""
    while len(data) < size:
        piece = stream.socket.recv(size - len(data))
        if not piece:
            raise ConnectionError("no header")
        data += piece
    return data
