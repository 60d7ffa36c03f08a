"""Servers that accept and don't greet as they should: no client ever notices.

HAProxy, told to redispatch, is shown beside it: it tries another server where a connect
failed, and these all accept.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness.clients.dialogue import Address, Client
from harness.mailweir.run import configuration
from harness.programs.haproxy import haproxy
from harness.scale import count
from harness.servers.scripted import Stream, serving
from harness.waiting import until
from scenarios.conftest import Start

_SESSIONS = count(300, 10_000)
_PARALLEL = 50
_GREETING = "300ms"
# Nothing that a check finds takes a server out of use: sessions alone meet them.
_CHECK = {"kind": "tcp", "every": "1h", "fall": 100}
# As much of HAProxy as there is for this. `timeout server` is all that limits a greeting.
_SETTINGS = (
    "option redispatch",
    "retries 3",
    "timeout connect 300ms",
    f"timeout server {_GREETING}",
)
_FINE = "fine"


def test_no_client_notices(tmp_path: Path, start: Start, counted: Callable[[str], None]) -> None:
    with _farm() as (servers, bad):
        config = configuration(tmp_path, servers, check=_CHECK)
        config["listeners"]["mx"]["timeouts"] = {"greeting": _GREETING}
        balancer = start(config)
        until(lambda: all(balancer.server_is(name, "up") for name in servers), "all to be up")
        bad.set()
        seen, times = _sessions(balancer.address())
        counted(_figure("mailweir", seen, times))
        assert seen == {_FINE: _SESSIONS}
        # No check has failed; who fails sessions is seen by these, if they last for a second.
        assert balancer.server_is("healthy", "up")
        for name in servers:
            assert balancer.server_is(name, "up") or balancer.server_is(name, "ejected"), name
        until(lambda: len(balancer.session_log()) >= _SESSIONS, "all sessions in the log")
        tried = Counter(failure for line in balancer.session_log() for failure in line["tried"])
        counted(f"servers that were tried in vain meanwhile: {dict(tried)}")
        for server, cause in (("busy", "4xx"), ("silent", "timeout"), ("resets", "reset")):
            name = "mailweir_server_greeting_failures_total"
            failed = balancer.metric(name, server=server, reason=cause)
            assert tried[f"{server}: greeting {cause}"] == failed
            # Each had its turn.
            assert failed > 0


@pytest.mark.needs("haproxy")
def test_haproxy_in_the_same_place(tmp_path: Path, counted: Callable[[str], None]) -> None:
    with _farm() as (servers, bad), haproxy(tmp_path, servers, _SETTINGS) as balancer:
        bad.set()
        seen, times = _sessions(balancer.address)
        counted(_figure("HAProxy", seen, times))
        assert seen.total() == _SESSIONS


@contextmanager
def _farm() -> Iterator[tuple[dict[str, str], threading.Event]]:
    """Four servers; one of them takes mail. They are as bad as they will be once that is set."""
    bad = threading.Event()

    def resets(stream: Stream) -> None:
        # A reset can come before the connect is seen: first checks don't meet any.
        if bad.is_set():
            stream.reset()

    kinds = {"busy": _busy, "silent": _silent, "resets": resets, "healthy": _healthy}
    with ExitStack() as exits:
        servers = {name: exits.enter_context(serving(handle)) for name, handle in kinds.items()}
        yield servers, bad


def _busy(stream: Stream) -> None:
    stream.send(b"421 4.7.0 busy.test too busy, try again later\r\n")


def _silent(stream: Stream) -> None:
    stream.rest()


def _healthy(stream: Stream) -> None:
    stream.send(b"220 healthy.test ESMTP\r\n")
    for line in iter(stream.line, b""):
        leaves = line.upper().startswith(b"QUIT")
        stream.send(b"221 bye\r\n" if leaves else b"250 ok\r\n")


def _sessions(address: Address) -> tuple[Counter[str], list[float]]:
    """What the clients saw, and how long those with a greeting waited for it."""
    times: list[float] = []

    def one(_: int) -> str:
        began = time.monotonic()
        try:
            with Client(address) as client:
                greeting = client.reply()
                if not greeting.startswith("220"):
                    return f"greeting {greeting[:3]}" if greeting else "closed before a greeting"
                times.append(time.monotonic() - began)
                client.expect("250", "EHLO client.test")
                client.expect("221", "QUIT")
        except (OSError, AssertionError) as error:
            return type(error).__name__
        return _FINE

    with ThreadPoolExecutor(_PARALLEL) as pool:
        return Counter(pool.map(one, range(_SESSIONS))), sorted(times)


def _figure(name: str, seen: Counter[str], times: list[float]) -> str:
    median, p99 = (times[int(len(times) * share)] * 1000 for share in (0.5, 0.99))
    return (
        f"{name}: {_SESSIONS} sessions, {_PARALLEL} parallel, before one healthy server of four:"
        f" {dict(seen)}; greeted after {median:.0f} ms (median), {p99:.0f} ms (99 %)"
    )
