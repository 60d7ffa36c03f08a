"""Crowds that nobody serves: others are served meanwhile, and the balancer answers its operators.

Refused clients that never close, as fast as they come, and SYNs that never complete; HAProxy in the
same place and the same attack is shown beside it.
"""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.clients import refused_crowd
from harness.clients.dialogue import Address
from harness.clients.syn_flood import lead_nowhere, syn_flood
from harness.mailweir.run import Mailweir, configuration
from harness.needs import program
from harness.networks.own import ClientFrom, own_network
from harness.process import running
from harness.programs.haproxy import haproxy
from harness.scale import count
from harness.servers.crowd import crowd
from harness.waiting import until
from mailweir.errors import MailweirError
from scenarios.conftest import Start

_SECONDS = count(2.0, 20.0)
_RATE = 1000  # connects a second of those that are refused
_DESCRIPTORS = 4096
_GOOD, _BAD = "127.0.1.1", "127.9.9.9"
_APART = 0.02  # seconds between two good clients, and between two questions
_SETTINGS = ("timeout connect 3s", "timeout server 11m")
_REJECT = (f"tcp-request connection reject if {{ src {_BAD} }}",)

Counted = Callable[[str], None]
Attack = Callable[[Path, Address], AbstractContextManager[None]]

pytestmark = pytest.mark.alone("measures what a flood, or what hangs, costs others")


@dataclass
class Seen:
    """What good clients and an operator met, and how long each waited."""

    greeted: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    answer_waits: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"good clients {dict(self.greeted)}, p99 {_p99(self.waits):.1f} ms,"
            f" at most {max(self.waits) * 1000:.0f} ms;"
            f" health {dict(self.answers)}, p99 {_p99(self.answer_waits):.1f} ms"
        )


@contextmanager
def _refused(directory: Path, address: Address) -> Iterator[None]:
    """One address that may not send mail here, and never closes."""
    host, port = address
    argv = [sys.executable, refused_crowd.__file__, _BAD, host, str(port), str(_RATE)]
    with running([*argv, str(_SECONDS)], directory, "refused") as process:
        process.until(lambda: "coming" in process.out, "the crowd to come")
        yield
        process.wait()
        came = int(process.out.split()[-1])
        assert came > _RATE * _SECONDS / 2, "a crowd"


@contextmanager
def _half_open(_: Path, address: Address) -> Iterator[None]:
    """SYNs alone: the queue of new connections is full of them."""
    lead_nowhere()
    with syn_flood(address, _SECONDS) as sent:
        until(lambda: bool(sent), "the flood to begin")
        yield


@pytest.mark.needs("haproxy", "iproute2")
@pytest.mark.parametrize(
    ("attack", "hurried"), [(_refused, True), (_half_open, False)], ids=["refused", "half_open"]
)
def test_others_are_served(
    tmp_path: Path, start: Start, counted: Counted, attack: Attack, hurried: bool
) -> None:
    with ExitStack() as exits:
        exits.enter_context(own_network())
        _, server = exits.enter_context(crowd(tmp_path, "polite"))
        config = configuration(tmp_path, {"a": server})
        config["listeners"]["mx"]["deny"] = [f"{_BAD}/32"]
        limit = f"--nofile={_DESCRIPTORS}:{_DESCRIPTORS}"
        balancer = start(config, [program("prlimit"), limit])
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        seen = _meanwhile(attack, tmp_path, balancer.address(), lambda: balancer.status())
        room = balancer.status()["room"]
        counted(f"mailweir: {seen}; {room['hurried']} ended at once, {room['lingering']} linger")
        _nobody_noticed(seen, balancer)
        assert room["lingering"] <= room["spare"]
        assert (room["hurried"] > 0) == hurried
    with ExitStack() as exits:
        exits.enter_context(own_network())
        _, server = exits.enter_context(crowd(tmp_path, "polite"))
        other = exits.enter_context(haproxy(tmp_path, {"a": server}, _SETTINGS, frontend=_REJECT))
        seen = _meanwhile(attack, tmp_path, other.address, lambda: other.tell("show info"))
        counted(f"HAProxy: {seen}")


def _nobody_noticed(seen: Seen, balancer: Mailweir) -> None:
    assert seen.greeted.keys() == {"220"}, seen
    assert seen.answers.keys() == {"answered"}, seen
    assert balancer.ended("out_of_descriptors") == 0
    assert balancer.metric("mailweir_listener_accept_pauses_total", listener="mx") == 0


def _meanwhile(
    attack: Attack, directory: Path, address: Address, ask: Callable[[], object]
) -> Seen:
    """What others see while an attack goes on."""
    seen, over = Seen(), threading.Event()

    def operate() -> None:
        while not over.wait(_APART):
            began = time.monotonic()
            try:
                ask()
                seen.answers["answered"] += 1
            except (MailweirError, OSError) as error:
                seen.answers[type(error).__name__] += 1
            seen.answer_waits.append(time.monotonic() - began)

    operator = threading.Thread(target=operate)
    until_then = time.monotonic() + _SECONDS
    try:
        with attack(directory, address):
            operator.start()
            while time.monotonic() < until_then:
                _one(address, seen)
                over.wait(_APART)
            over.set()
            operator.join()
    finally:
        over.set()
    return seen


def _one(address: Address, seen: Seen) -> None:
    """A good client: how it is met, and after how long."""
    began, met = time.monotonic(), "nothing"
    with suppress(OSError, AssertionError), ClientFrom(_GOOD, address) as client:
        met = client.line()[:3] or "closed"
        seen.waits.append(time.monotonic() - began)
        client.send(b"QUIT\r\n")
    seen.greeted[met] += 1


def _p99(waits: list[float]) -> float:
    """In milliseconds."""
    return sorted(waits)[int(len(waits) * 0.99)] * 1000
