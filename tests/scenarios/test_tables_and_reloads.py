"""What is remembered of sources outlives reloads: the server each of them was at, what it has used
up of its rate, the sessions that it has.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.clients.dialogue import Address, Client
from harness.clients.sources import ABOVE_A_LIMIT, IN, answer, at_once
from harness.mailweir.run import Mailweir, Tree, configuration
from harness.scale import count
from harness.servers.scripted import Stream, serving
from harness.waiting import until
from scenarios.conftest import Start

_RELOADS = count(20, 100)
_SOURCES = [f"127.0.7.{number}" for number in range(1, 51)]
_GREEDY, _BUSY = "127.0.8.1", "127.0.8.2"
_AT_WORK = 4  # clients at a time

Counted = Callable[[str], None]


@dataclass
class _Server:
    """It greets by its name, unless it is out of order: then it resets."""

    name: str
    broken: bool = False

    def serve(self, stream: Stream) -> None:
        if self.broken:
            stream.reset()
            return
        stream.send(f"220 {self.name} ESMTP\r\n".encode())
        for line in iter(stream.line, b""):
            leaves = line.upper().startswith(b"QUIT")
            stream.send(b"221 bye\r\n" if leaves else b"250 ok\r\n")


@dataclass
class _Clients:
    """Sources that come again and again, and where each of them was."""

    address: Address
    seen: dict[str, Counter[str]] = field(
        default_factory=lambda: {source: Counter() for source in _SOURCES}
    )

    def all_come(self) -> dict[str, str]:
        """Once; where."""
        return {source: self._come(source) for source in _SOURCES}

    def _come(self, source: str) -> str:
        with Client(self.address, host=source) as client:
            said = client.line()
            if not said.startswith("220"):
                return said
            client.expect("221", "QUIT")
            return said.split()[1]

    @contextmanager
    def coming(self) -> Iterator[None]:
        """All the time, until the block ends."""
        over = threading.Event()

        def come(sources: list[str]) -> None:
            while not over.is_set():
                for source in sources:
                    self.seen[source][self._come(source)] += 1

        with ThreadPoolExecutor(_AT_WORK) as pool:
            work = [pool.submit(come, _SOURCES[one::_AT_WORK]) for one in range(_AT_WORK)]
            try:
                yield
            finally:
                over.set()
        for one in work:
            one.result()


def test_sources_stay_over_reloads(tmp_path: Path, start: Start, counted: Counted) -> None:
    limits = {"sessions": 10, "rate": "30/h", "exempt": ["127.0.7.0/24"]}
    with _farm(tmp_path, start) as (balancer, config, _):
        config["listeners"]["mx"]["limits"] = {"per_source": limits}
        balancer.change(config)
        clients = _Clients(balancer.address())
        first = clients.all_come()
        assert set(first.values()) == {"a", "b", "c"}
        with at_once(clients.address, _BUSY, 12) as (_, held):
            assert held == {IN: 10, ABOVE_A_LIMIT: 2}
            for _ in range(30):
                assert answer(clients.address, _GREEDY) == IN
            with clients.coming():
                for number in range(_RELOADS):
                    _change(config, number)
                    balancer.change(config)
                    assert answer(clients.address, _BUSY) == ABOVE_A_LIMIT
                    assert answer(clients.address, _GREEDY) == ABOVE_A_LIMIT
        came = sum(seen.total() for seen in clients.seen.values())
        counted(f"{_RELOADS} reloads under {came} sessions of {len(_SOURCES)} sources")
        # All come in each turn, but for the last ones.
        assert min(seen.total() for seen in clients.seen.values()) > 1
        assert {source: set(seen) for source, seen in clients.seen.items()} == {
            source: {server} for source, server in first.items()
        }
        # Those two stay with a server as well: of theirs, only the first one is new.
        assert _sticky(balancer, "made_total") == len(_SOURCES) + 2
        assert _sticky(balancer, "broken_total") == 0
        assert _sticky(balancer, "entries") == len(_SOURCES) + 2
        until(lambda: balancer.status()["sessions"] == 0, "all to end")
        assert balancer.ended("source_sessions") == _RELOADS + 2
        assert balancer.ended("source_rate") == _RELOADS


def test_a_server_that_fails_loses_its_sources_once(
    tmp_path: Path, start: Start, counted: Counted
) -> None:
    """They stay with the one that they came to, also once theirs is back."""
    with _farm(tmp_path, start) as (balancer, config, servers):
        clients = _Clients(balancer.address())
        before = clients.all_come()
        moved = [source for source, server in before.items() if server == "a"]
        with clients.coming():
            servers["a"].broken = True
            until(lambda: balancer.server_is("a", "down"), "it to be down")
            balancer.change(_change(config, 1))
            after = clients.all_come()
            servers["a"].broken = False
            until(lambda: balancer.server_is("a", "up"), "it to be up")
            balancer.change(_change(config, 2))
            again = clients.all_come()
        broken = _sticky(balancer, "broken_total")
        counted(f"{len(moved)} of {len(_SOURCES)} sources lost their server: {broken:.0f} broken")
        assert after == again
        stayed = {source: server for source, server in before.items() if server != "a"}
        assert stayed.items() <= after.items()
        assert {after[source] for source in moved} == {"b", "c"}
        assert broken == len(moved) > 0
        # Where each was, in turn, and nowhere else: those that moved, at two servers.
        assert {source for source, seen in clients.seen.items() if len(seen) > 1} <= set(moved)
        assert all(seen.keys() <= {"a", "b", "c"} for seen in clients.seen.values())


@contextmanager
def _farm(directory: Path, start: Start) -> Iterator[tuple[Mailweir, Tree, dict[str, _Server]]]:
    """Three servers that sources stay with."""
    servers = {name: _Server(name) for name in "abc"}
    with ExitStack() as exits:
        where: Tree = {
            name: {"address": exits.enter_context(serving(one.serve))}
            for name, one in servers.items()
        }
        check = {"every": "500ms", "fast": "100ms", "rise": 1, "fall": 1}
        config = configuration(directory, where, workers=4, check=check)
        farm = config["pools"]["farm"]
        farm |= {"sticky": {"by": "source", "prefix4": 32}, "slow_start": "0s"}
        balancer = start(config)
        until(lambda: all(balancer.server_is(name, "up") for name in where), "all to be up")
        yield balancer, config, servers


def _change(config: Tree, number: int) -> Tree:
    """Now and then a weight, else something that doesn't matter."""
    if number % 3 == 0:
        config["pools"]["farm"]["servers"]["b"]["weight"] = 50 + number
    config["listeners"]["mx"]["max_age"] = f"{number + 1}h"
    return config


def _sticky(balancer: Mailweir, what: str) -> float:
    return balancer.metric(f"mailweir_pool_sticky_{what}", pool="farm")
