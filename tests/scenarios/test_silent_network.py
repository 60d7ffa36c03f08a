"""Every packet to the servers is dropped, as where a switch or a firewall between is at fault: no
refusal, no reset. With the default checks: when they notice, and what clients hear until then, from
then on, and when the network is back.

In a network of the test's own, where nothing else is cut off.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.clients.dialogue import Address
from harness.clients.sources import BUSY, IN, answer
from harness.mailweir.run import Mailweir, configuration
from harness.needs import program
from harness.networks.own import own_network
from harness.process import run
from harness.servers.scripted import Stream, serving
from harness.waiting import until
from scenarios.conftest import Start

pytestmark = pytest.mark.needs("iproute2", "nftables")

_SERVERS = "127.0.7.1"
_NAMES = "ab"
# As documented (docs/choosing.md, "When servers fail"), and what a busy machine adds; in seconds.
# Without clients the next check is due within 12.
_WITH_CLIENTS, _WITHOUT, _BUSY = 14.0, 26.0, 6.0
_EVERY = 0.25  # seconds between two clients
_AT_ONCE = 1.0  # seconds
_IN_VAIN = len(_NAMES) * 3.0  # seconds: timeouts.connect for each


@dataclass(frozen=True)
class _Heard:
    """What a client heard, when it began, and after how long; in seconds."""

    began: float
    took: float
    word: str


def test_with_clients(tmp_path: Path, start: Start, counted: Callable[[str], None]) -> None:
    """Checks notice soon, since sessions do; whoever comes is told to come back."""
    with _farm(tmp_path, start) as balancer, _clients(balancer.address()) as heard:
        until(lambda: len(heard) > 3, "sessions")
        with _silence():
            cut = time.monotonic()
            until(lambda: _states(balancer) == {"panic"}, "checks to notice", limit=90)
            noticed = time.monotonic()
            # Whoever came before has its answer by then.
            until(lambda: _since(heard, noticed + _IN_VAIN), "sessions after that")
        mended = time.monotonic()
        until(lambda: _states(balancer) == {"up"}, "checks to pass again", limit=60)
        back = time.monotonic()
        until(lambda: len(_since(heard, back)) > 3, "sessions after that")
    before, after = _since(heard, cut, noticed), _since(heard, noticed + _IN_VAIN, mended)
    counted(f"noticed after {noticed - cut:.1f} s; up again after {back - mended:.1f} s")
    for when, those in (("until noticed", before), ("from then on", after)):
        said = dict(Counter(one.word for one in those))
        took = sorted(one.took for one in those)
        counted(f"{when}: {said} after {took[len(took) // 2]:.1f} s (median), {took[-1]:.1f} s")
    assert noticed - cut < _WITH_CLIENTS + _BUSY
    assert {one.word for one in before + after} == {BUSY}
    assert max(one.took for one in before) < _IN_VAIN + _AT_ONCE
    assert max(one.took for one in after) < _AT_ONCE
    assert {one.word for one in _since(heard, back)} == {IN}


def test_without_clients(tmp_path: Path, start: Start, counted: Callable[[str], None]) -> None:
    """Nobody but the checks themselves can notice."""
    with _farm(tmp_path, start) as balancer, _silence():
        cut = time.monotonic()
        until(lambda: _states(balancer) == {"panic"}, "checks to notice", limit=90)
        counted(f"noticed after {time.monotonic() - cut:.1f} s")
        assert time.monotonic() - cut < _WITHOUT + _BUSY


@contextmanager
def _farm(directory: Path, start: Start) -> Iterator[Mailweir]:
    """Two servers that are up, with the checks that there are by default."""
    with ExitStack() as exits:
        exits.enter_context(own_network())
        servers = {name: exits.enter_context(serving(_serve, (_SERVERS, 0))) for name in _NAMES}
        balancer = start(configuration(directory, servers))
        until(lambda: _states(balancer) == {"up"}, "them to be up")
        yield balancer


def _serve(stream: Stream) -> None:
    stream.send(b"220 server.test ESMTP\r\n")
    for line in iter(stream.line, b""):
        stream.send(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 ok\r\n")


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing reaches the servers, and nobody says so."""
    chain, rule = "type filter hook input priority 0;", f"ip daddr {_SERVERS} drop"
    _nft(f"table inet cut {{\n chain in {{\n {chain}\n {rule}\n }}\n}}")
    try:
        yield
    finally:
        _nft("delete table inet cut")


def _nft(rules: str) -> None:
    done = run([program("nft"), rules])
    assert done.returncode == 0, done.stderr


@contextmanager
def _clients(address: Address) -> Iterator[list[_Heard]]:
    """A client every now and then, however long each waits; what those have heard that are done."""
    heard: list[_Heard] = []
    enough = threading.Event()
    threads: list[threading.Thread] = []

    def ask() -> None:
        began = time.monotonic()
        word = answer(address, "127.0.0.1")
        heard.append(_Heard(began, time.monotonic() - began, word))

    def come() -> None:
        while not enough.wait(_EVERY):
            threads.append(threading.Thread(target=ask))
            threads[-1].start()

    coming = threading.Thread(target=come)
    coming.start()
    try:
        yield heard
    finally:
        enough.set()
        for thread in [coming, *threads]:
            thread.join()


def _since(heard: list[_Heard], begin: float, end: float = float("inf")) -> list[_Heard]:
    return [one for one in list(heard) if begin <= one.began < end]


def _states(balancer: Mailweir) -> set[str]:
    return {server["state"] for server in balancer.servers().values()}
