"""Senders that never pause leave a server that drains at their next command: none of their mails is
lost or comes twice, whatever way they send them.
"""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.clients.senders import (
    Seen,
    Step,
    Way,
    by_chunks,
    by_data,
    by_data_of,
    pipelined,
    senders,
    with_auth,
)
from harness.mailweir.run import Mailweir, configuration
from harness.scale import LONG, count
from harness.servers.takers import Takers, mail
from harness.waiting import LIMIT, until
from scenarios.conftest import Start

_SENDERS = count(8, 30)
_DELAY = count(0.5, 3.0)  # seconds from a final dot to its answer
_SPREAD = count(0.5, 5.0)
# None of them is ever silent for so long.
_QUIET = 2 * LIMIT
_LARGE = count(2, 20) * 1024 * 1024
_SLACK = 1.0 if LONG else LIMIT
# Mails in a session: hardly any ends by itself.
_NO_END = 100_000


def _large(key: str) -> list[Step]:
    return by_data_of(mail(key, _LARGE))


_WAYS: dict[str, tuple[Way, int]] = {
    "data": (by_data, _SENDERS),
    "auth": (with_auth, _SENDERS),
    "pipelined": (pipelined, _SENDERS),
    "chunks": (by_chunks, _SENDERS),
    "large": (_large, count(3, 10)),
    "large chunks": (functools.partial(by_chunks, size=_LARGE), count(3, 10)),
}


@pytest.mark.parametrize("way", _WAYS)
def test_they_leave_behind_the_message_that_they_are_at(
    tmp_path: Path, start: Start, counted: Callable[[str], None], way: str
) -> None:
    send, number = _WAYS[way]
    with _load(tmp_path, start, send, number) as load:
        began = time.monotonic()
        assert load.balancer.command("drain", "farm/a", "--wait").returncode == 0
        seconds = time.monotonic() - began
    taken, seen = load.takers.taken(), load.seen
    lost = seen.issued - taken.keys()
    twice = sum(times - 1 for times in taken.values())
    counted(
        f"{number} senders, up to {seen.longest:.2f} s for each mail, spread {_SPREAD:g} s:"
        f" empty after {seconds:.2f} s; {len(seen.issued)} mails, {len(lost)} lost,"
        f" {twice} came twice; {len(seen.told)} sessions told,"
        f" {len(seen.broken)} broken {seen.broken[:3]}"
    )
    assert (lost, twice) == (set(), 0)
    assert seen.acknowledged == seen.issued
    assert load.balancer.ended("drain") > 0
    assert load.balancer.ended("cut_in_data") == load.balancer.ended("drain_deadline") == 0
    assert seconds < seen.longest + _SPREAD + _SLACK


@dataclass(frozen=True)
class _Load:
    balancer: Mailweir
    takers: Takers
    seen: Seen


@contextmanager
def _load(directory: Path, start: Start, send: Way, number: int) -> Iterator[_Load]:
    """Such senders, of whom some are at server `a`."""
    takers = Takers(_DELAY)
    with takers.server("a") as a, takers.server("b") as b:
        drain = {"quiet": f"{_QUIET:g}s", "spread": f"{1000 * _SPREAD:.0f}ms"}
        check = {"kind": "tcp", "every": "1h"}
        config = configuration(directory, {"a": a, "b": b}, check=check, drain=drain)
        balancer = start(config)
        with senders(balancer.address(), number, 0.0, send, most=_NO_END) as seen:
            until(lambda: len(seen.acknowledged) >= number, "load", limit=LIMIT + 20 * _DELAY)
            assert balancer.servers()["a"]["active"] > 0
            yield _Load(balancer, takers, seen)
        until(lambda: balancer.status()["sessions"] == 0, "all sessions to end")
