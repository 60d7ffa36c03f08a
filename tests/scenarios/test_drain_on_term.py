"""TERM: sessions go on to their end while new ones are refused. A second TERM ends at once."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.clients.dialogue import Client, refused
from harness.clients.smtpload import Sink, Smtpload
from harness.mailweir.run import Mailweir, configuration
from harness.servers.crowd import connect, crowd
from harness.waiting import until
from scenarios.conftest import Start

# Of 64 KiB: more than the buffers between a server and a client hold.
_PIECES = 100
_STALLED = 20


def test_a_mail_under_way_is_finished(tmp_path: Path, start: Start, smtpload: Smtpload) -> None:
    with smtpload.sink("server") as sink:
        balancer = start(configuration(tmp_path, {"a": sink.addresses[0]}))
        address = balancer.address()
        with _in_data(balancer) as client:
            balancer.process.send(signal.SIGTERM)
            until(lambda: refused(address), "new connections to be refused")
            assert balancer.status()["draining"]
            assert balancer.metric("mailweir_draining") == 1
            client.expect("250", "second line\r\n.")
            assert balancer.process.exit_code is None
            assert all(refused(address) for _ in range(20))
            client.expect("221", "QUIT")
            assert client.rest() == b""
        assert balancer.process.wait() == 0
        assert "stopping, every session has ended" in balancer.process.err
        assert _mails(sink) == 1


def test_a_second_term_ends_at_once(tmp_path: Path, start: Start, smtpload: Smtpload) -> None:
    with smtpload.sink("server") as sink:
        balancer = start(configuration(tmp_path, {"a": sink.addresses[0]}))
        with _in_data(balancer):
            balancer.process.send(signal.SIGTERM)
            until(lambda: balancer.status()["draining"], "the drain to begin")
            balancer.process.send(signal.SIGTERM)
            began = time.monotonic()
            assert balancer.process.wait() == 0
            assert time.monotonic() - began < 5
        assert 'reason="told twice"' in balancer.process.err
        assert _mails(sink) == 0


def test_the_deadline_ends_the_drain(tmp_path: Path, start: Start, smtpload: Smtpload) -> None:
    with smtpload.sink("server") as sink:
        config = configuration(tmp_path, {"a": sink.addresses[0]}, drain={"deadline": "1s"})
        balancer = start(config)
        with _in_data(balancer):
            balancer.process.send(signal.SIGTERM)
            began = time.monotonic()
            assert balancer.process.wait() == 0
            assert time.monotonic() - began >= 1
        assert [one["end_reason"] for one in balancer.session_log()] == ["cut_in_data"]


def test_ends_that_read_nothing_hold_up_nothing(tmp_path: Path, start: Start) -> None:
    """Bytes are under way to clients that take none: the deadline is the end for them too."""
    with crowd(tmp_path, "flood", _PIECES) as (_, address), ExitStack() as exits:
        config = configuration(
            tmp_path, {"a": address}, check={"kind": "tcp"}, drain={"deadline": "1s"}
        )
        balancer = start(config)
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        where = balancer.address()
        for _ in range(_STALLED):
            exits.enter_context(connect(where, 4096))
        until(lambda: balancer.status()["sessions"] == _STALLED, "all sessions to be there")
        until(lambda: _carried(balancer) > _STALLED << 20, "bytes to be under way")
        balancer.process.send(signal.SIGTERM)
        assert balancer.process.wait() == 0
        reasons = [one["end_reason"] for one in balancer.session_log()]
    assert reasons == ["drain_deadline"] * _STALLED


def _carried(balancer: Mailweir) -> float:
    return balancer.metric("mailweir_listener_sent_bytes_total", listener="mx")


@contextmanager
def _in_data(balancer: Mailweir) -> Iterator[Client]:
    """A session in the middle of its mail."""
    with Client(balancer.address()) as client:
        client.begin_mail()
        client.send(b"Subject: under way\r\n\r\nfirst line\r\n")
        yield client


def _mails(sink: Sink) -> int:
    """How many mails the server has taken."""
    return int(sink.report()["messages"])
