"""`mailweir drain`: a server is emptied under load, and no mail is lost or comes twice.

HAProxy's way to empty a server is shown beside it. It cuts whoever is there, also where a
mail was taken and its answer is on its way: that sender sends it again.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.clients.dialogue import Address
from harness.clients.senders import Seen, senders
from harness.mailweir.run import COMMAND, Mailweir, Tree, configuration
from harness.process import run
from harness.programs.haproxy import haproxy
from harness.scale import count
from harness.servers.takers import Takers
from harness.waiting import LIMIT, until
from scenarios.conftest import Start

_SENDERS = count(40, 200)
_DELAY = count(1.0, 5.0)  # seconds from a final dot to its answer
_QUIET = count(1.0, 5.0)
_SPREAD = count(2.0, 10.0)
# Longer than quiet, so that sessions may be cut in it, and less than what mailweir then waits
# beyond it (5 s) for the client to have read the reason.
_PAUSE = count(2.5, 9.0)
# A session's 20 mails, if it is never quiet for long enough.
_EMPTYING = 20 * (_DELAY + _PAUSE) + LIMIT
_CHECK = {"kind": "tcp", "every": "1h"}


@dataclass(frozen=True)
class _Outcome:
    """What came of a drain."""

    taken: Counter[str]
    seen: Seen
    seconds: float  # until the server had no session left

    @property
    def lost(self) -> set[str]:
        return self.seen.issued - self.taken.keys()

    @property
    def twice(self) -> int:
        return sum(times - 1 for times in self.taken.values())

    def __str__(self) -> str:
        told, broken = Counter(self.seen.told), Counter(self.seen.broken)
        return (
            f"{_SENDERS} senders, {_DELAY:g} s for each mail, {len(self.seen.issued)} mails:"
            f" {len(self.lost)} lost, {self.twice} came twice;"
            f" sessions ended early: {told.total()} in words {dict(told)},"
            f" {broken.total()} without {dict(broken)}; empty after {self.seconds:.1f} s"
        )


def test_no_mail_is_lost_or_comes_twice(
    tmp_path: Path, start: Start, counted: Callable[[str], None]
) -> None:
    takers = Takers(_DELAY)
    with _farm(takers) as servers:
        config = _config(tmp_path, servers)
        balancer = start(config)

        def drain() -> None:
            command = [*COMMAND, "drain", "farm/a", "--wait"]
            drained = run([*command, "--socket", config["admin"]["socket"]], limit=_EMPTYING)
            assert (drained.returncode, drained.stderr) == (0, "")
            assert balancer.servers()["a"]["active"] == 0
            assert balancer.server_is("a", "drain")

        def ready() -> None:
            before = balancer.servers()["a"]["sessions"]
            assert balancer.command("ready", "farm/a").returncode == 0
            until(lambda: balancer.servers()["a"]["sessions"] > before, "sessions on it again")

        outcome = _under_load(
            balancer.address(), takers, lambda: _active(balancer, "a"), drain, ready
        )
        counted(f"mailweir: {outcome}")
        until(lambda: balancer.status()["sessions"] == 0, "all sessions to end")
        assert (outcome.lost, outcome.twice) == (set(), 0)
        assert outcome.seen.acknowledged == outcome.seen.issued
        # Whoever was cut was told so.
        assert outcome.seen.broken == []
        assert balancer.ended("drain") == len(outcome.seen.told) > 0
        assert balancer.ended("cut_in_data") == 0


@pytest.mark.needs("haproxy")
def test_haproxy_in_the_same_place(tmp_path: Path, counted: Callable[[str], None]) -> None:
    takers = Takers(_DELAY)
    settings = ("timeout connect 3s", "timeout server 11m")
    with _farm(takers) as servers, haproxy(tmp_path, servers, settings) as balancer:

        def drain() -> None:
            assert balancer.tell("set server farm/a state drain") == ""
            assert balancer.tell("shutdown sessions server farm/a") == ""
            until(lambda: balancer.sessions("a") == 0, "the server to be empty", limit=_EMPTYING)

        def ready() -> None:
            assert balancer.tell("set server farm/a state ready") == ""
            until(lambda: balancer.sessions("a"), "sessions on it again")

        outcome = _under_load(
            balancer.address, takers, lambda: balancer.sessions("a"), drain, ready
        )
        counted(f"HAProxy: {outcome}")
        assert outcome.seen.acknowledged == outcome.seen.issued


def _config(directory: Path, servers: dict[str, str]) -> Tree:
    drain = {"quiet": f"{_QUIET:g}s", "spread": f"{_SPREAD:g}s"}
    return configuration(directory, servers, check=_CHECK, drain=drain)


@contextmanager
def _farm(takers: Takers) -> Iterator[dict[str, str]]:
    with takers.server("a") as a, takers.server("b") as b:
        yield {"a": a, "b": b}


def _under_load(
    address: Address,
    takers: Takers,
    active: Callable[[], int],
    drain: Callable[[], None],
    ready: Callable[[], None],
) -> _Outcome:
    """Senders all along: they find the server, it is drained, it is used again."""
    with senders(address, _SENDERS, _PAUSE) as seen:
        until(
            # By then they aren't in step any more.
            lambda: len(seen.acknowledged) >= 3 * _SENDERS and active() >= _SENDERS / 4,
            "load on the server",
            limit=4 * (_DELAY + _PAUSE) + LIMIT,
        )
        began = time.monotonic()
        drain()
        seconds = time.monotonic() - began
        ready()
    return _Outcome(takers.taken(), seen, seconds)


def _active(balancer: Mailweir, server: str) -> int:
    return int(balancer.servers()[server]["active"])
