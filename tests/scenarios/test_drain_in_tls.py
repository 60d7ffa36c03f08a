"""Inside TLS nobody but the two ends reads along, and a drain goes by silence there: a sender
leaves once it was silent for 30 s, one that never is stays to the deadline.
"""

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.clients.senders import Seen, senders
from harness.mailweir.run import Mailweir, configuration
from harness.programs.postfix import certificate
from harness.scale import LONG, count
from harness.servers.takers import Takers
from harness.waiting import LIMIT, until
from scenarios.conftest import Start

_NAME = "mx.server.test"
_SENDERS = 8
_QUIET = 30.0  # seconds, not to be configured
# In the long run a silence of that length has time to come.
_DEADLINE = count(3.0, 1.5 * _QUIET)
_PAUSE = 2.5 * _QUIET
# Mails in a session: it doesn't end by itself.
_ENDLESS = 10**7

pytestmark = pytest.mark.needs("openssl")


def test_one_that_never_pauses_stays_to_the_deadline(
    tmp_path: Path, start: Start, counted: Callable[[str], None]
) -> None:
    with _load(tmp_path, start, 0.0, f"{_DEADLINE:g}s") as load:
        before = len(load.seen.acknowledged)
        seconds = load.drained(_DEADLINE)
        sent = len(load.seen.acknowledged) - before
        counted(f"{_SENDERS} that never pause: {sent} mails meanwhile, {load.told(seconds)}")
    assert seconds > 0.9 * _DEADLINE
    assert load.balancer.ended("drain") == 0
    assert load.balancer.ended("drain_deadline") > 0
    assert load.seen.acknowledged == load.seen.issued == load.takers.taken().keys()


@pytest.mark.skipif(not LONG, reason="takes minutes, with MAILWEIR_LONG=1 alone")
def test_one_that_pauses_long_enough_leaves_then(
    tmp_path: Path, start: Start, counted: Callable[[str], None]
) -> None:
    limit = 20 * _PAUSE
    with _load(tmp_path, start, _PAUSE, f"{2 * limit:g}s") as load:
        seconds = load.drained(limit)
        counted(f"{_SENDERS} that pause up to {_PAUSE:g} s: {load.told(seconds)}")
    assert load.balancer.ended("drain") > 0
    assert load.balancer.ended("drain_deadline") == load.balancer.ended("cut_in_data") == 0
    taken = load.takers.taken()
    assert load.seen.acknowledged == load.seen.issued == taken.keys()
    assert set(taken.values()) == {1}


@dataclass(frozen=True)
class _Load:
    balancer: Mailweir
    takers: Takers
    seen: Seen

    def drained(self, limit: float) -> float:
        """The seconds until server `a` was empty."""
        began = time.monotonic()
        done = self.balancer.command("drain", "farm/a", "--wait", limit=limit + LIMIT)
        assert done.returncode == 0, done.stderr
        return time.monotonic() - began

    def told(self, seconds: float) -> str:
        """What came of it so far."""
        taken = self.takers.taken()
        twice = sum(times - 1 for times in taken.values())
        ends = {word: int(self.balancer.ended(word)) for word in ("drain", "drain_deadline")}
        return f"empty after {seconds:.1f} s, {ends}, {twice} came twice"


@contextmanager
def _load(directory: Path, start: Start, pause: float, deadline: str) -> Iterator[_Load]:
    """Senders inside TLS, of whom some are at server `a`; all of them through in the end."""
    cert, key = certificate(directory, _NAME)
    serves = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serves.load_cert_chain(cert, key)
    trusts = ssl.create_default_context(cafile=str(cert))

    def begin(client: Client) -> None:
        client.start_tls(trusts, _NAME)

    takers = Takers(0.05, serves)
    with takers.server("a") as a, takers.server("b") as b:
        drain = {"spread": "0s", "deadline": deadline}
        check = {"kind": "tcp", "every": "1h"}
        balancer = start(configuration(directory, {"a": a, "b": b}, check=check, drain=drain))
        with senders(balancer.address(), _SENDERS, pause, begin=begin, most=_ENDLESS) as seen:
            until(lambda: len(seen.acknowledged) >= _SENDERS, "load", limit=LIMIT + pause)
            assert balancer.servers()["a"]["active"] > 0
            yield _Load(balancer, takers, seen)
        until(lambda: balancer.status()["sessions"] == 0, "all sessions to end")
