"""Floods: of half-open connections, and of sessions that all fail. Others get through, and the
log stays small.
"""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.clients.dialogue import Address, Client
from harness.clients.syn_flood import lead_nowhere, syn_flood
from harness.mailweir.run import Tree, configuration
from harness.networks.own import own_network
from harness.networks.ports import refusing
from harness.scale import count
from harness.servers.crowd import crowd
from harness.servers.scripted import Stream, serving
from harness.waiting import until
from scenarios.conftest import Start

_SECONDS = count(2.0, 5.0)
_GOOD = count(50, 200)
_SESSIONS = count(2000, 20_000)
_SYN_RECV = "03"  # TCP_SYN_RECV in /proc/net/tcp
# In a second; a flood is a line now and then, with a number.
_MOST_LINES = 20

Counted = Callable[[str], None]


@pytest.mark.needs("iproute2")
def test_connections_that_never_complete(tmp_path: Path, start: Start, counted: Counted) -> None:
    """SYNs from sources that never answer fill the queue; SYN cookies let others through."""
    with ExitStack() as exits:
        exits.enter_context(own_network())
        lead_nowhere()
        _, address = exits.enter_context(crowd(tmp_path, "polite"))
        balancer = start(configuration(tmp_path, {"a": address}))
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        where = balancer.address()
        with syn_flood(where, _SECONDS) as sent:
            until(lambda: sent, "the flood to begin")
            waits = sorted(_greeted_after(where) for _ in range(_GOOD))
        half_open = _half_open(where[1])
    counted(
        f"{len(sent)} SYNs, {half_open} half-open at the end; {_GOOD} clients greeted after"
        f" {waits[_GOOD // 2] * 1000:.1f} ms (median), {waits[-1] * 1000:.0f} ms at most"
    )
    assert half_open > 100, "a flood"


def test_the_log_of_a_flood_is_short(tmp_path: Path, start: Start, counted: Counted) -> None:
    """Every server fails, in all ways, and clients come as fast as they can."""
    with ExitStack() as exits:
        servers: Tree = {"refuses": exits.enter_context(refusing())}
        for name, handle in _FAILING.items():
            servers[name] = exits.enter_context(serving(handle))
        config = configuration(tmp_path, servers, check={"kind": "tcp", "every": "1s"})
        balancer = start(config)
        until(lambda: balancer.server_is("busy", "up"), "the servers to be up")
        said, began = len(balancer.process.err), time.monotonic()
        address = balancer.address()
        with ThreadPoolExecutor(16) as pool:
            told = Counter(pool.map(lambda _: _told(address), range(_SESSIONS)))
        until(lambda: balancer.status()["sessions"] == 0, "all sessions to end")
        seconds = time.monotonic() - began
        lines = len(balancer.process.err[said:].splitlines())
        ended = balancer.ended("greeting_failed") + balancer.ended("connect_failed")
        until(lambda: len(balancer.session_log()) == _SESSIONS, "each in the session log")
    counted(
        f"{_SESSIONS} sessions in {seconds:.1f} s, told {dict(told)}: {lines} lines in the log of"
        f" the process, {ended:.0f} in its metrics"
    )
    assert told == {"421": _SESSIONS}
    assert ended == _SESSIONS
    assert lines < _MOST_LINES * max(seconds, 1)


def _busy(stream: Stream) -> None:
    stream.send(b"421 4.3.2 busy\r\n")
    stream.rest()


def _nonsense(stream: Stream) -> None:
    stream.send(b"SSH-2.0-OpenSSH\r\n")
    stream.rest()


_FAILING: dict[str, Callable[[Stream], None]] = {
    "busy": _busy,
    "nonsense": _nonsense,
    "resets": Stream.reset,
    "closes": lambda _: None,
}


def _told(address: Address) -> str:
    with Client(address) as client:
        return client.line()[:3]


def _greeted_after(address: Address) -> float:
    began = time.monotonic()
    with Client(address) as client:
        client.expect("220")
        waited = time.monotonic() - began
        client.expect("221", "QUIT")
    return waited


def _half_open(port: int) -> int:
    """Connections at this port that wait for the third segment."""
    rows = map(str.split, Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:])
    return [row[3] for row in rows if row[1].endswith(f":{port:04X}")].count(_SYN_RECV)
