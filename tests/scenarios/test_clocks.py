"""The wall clock jumps by an hour, forward and back: nothing but time stamps goes by it."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from harness.clients.dialogue import Address, Client
from harness.machine.wall_clock import by_clock
from harness.mailweir.run import Mailweir, configuration
from harness.servers.crowd import crowd
from harness.waiting import until
from scenarios.conftest import Start

_SENDERS = 8
_JUMPS = ("+3600", "-3600", "+0")

pytestmark = pytest.mark.needs("faketime")


def test_no_session_and_no_check_goes_by_it(
    tmp_path: Path, start: Start, counted: Callable[[str], None]
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0")
    with crowd(tmp_path, "polite") as (_, address):
        check = {"every": "200ms", "fast": "200ms", "fall": 1, "timeout": "5s"}
        config = configuration(tmp_path, {"a": address}, check=check)
        balancer = start(config, by_clock(clock))
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        began = time.monotonic()
        with Client(balancer.address()) as idle, _load(balancer.address()) as sent:
            idle.expect("220")
            for jump in _JUMPS:
                clock.write_text(jump)
                _lives_by(balancer, int(jump), sent)
            idle.expect("250", "NOOP")
            idle.expect("221", "QUIT")
        until(lambda: len(balancer.session_log()) == len(sent) + 1, "all sessions in the log")
        took = 1000 * (time.monotonic() - began)
        lines = balancer.session_log()
        assert {line["end_reason"] for line in lines} == {"client_quit"}
        assert all(0 <= line["duration_ms"] < took for line in lines)
        assert balancer.process.err.count("server changed") == 1
    counted(f"{len(_JUMPS)} jumps: {len(sent)} mails, none failed; checks went on")


def _lives_by(balancer: Mailweir, jump: int, sent: list[None]) -> None:
    """Waits until the process has seen the jump, and for rounds of mails and checks after it."""
    until(lambda: abs(_stamp(balancer) - time.time() - jump) < 60, "the process to see it")
    mails, checks = len(sent) + 20 * _SENDERS, _checks(balancer) + 5
    until(lambda: len(sent) > mails, "mails after the jump")
    until(lambda: _checks(balancer) > checks, "checks after the jump")


def _stamp(balancer: Mailweir) -> float:
    """What time it was for the process when the session that ended last began."""
    log = balancer.session_log()
    return datetime.fromisoformat(log[-1]["ts"]).timestamp() if log else 0


def _checks(balancer: Mailweir) -> float:
    return balancer.metric("mailweir_check_duration_seconds_count")


@contextmanager
def _load(address: Address) -> Iterator[list[None]]:
    """Mails one after the other by some senders; those that were taken so far."""
    over, sent = threading.Event(), list[None]()

    def send() -> None:
        while not over.is_set():
            with Client(address) as client:
                client.begin_mail()
                client.expect("250", "hello\r\n.")
                client.expect("221", "QUIT")
                assert client.rest() == b""
            sent.append(None)

    with ThreadPoolExecutor(_SENDERS) as pool:
        senders = [pool.submit(send) for _ in range(_SENDERS)]
        try:
            yield sent
        finally:
            over.set()
        for sender in senders:
            sender.result()
