"""What sessions cost while they do nothing, and what nobody can take from others by it.

Memory is what the process has of its own (RssAnon); what the kernel keeps for sockets is bounded
by the kernel.
"""

import hashlib
import signal
import socket
import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from harness.clients.dialogue import Address, Client
from harness.clients.smtpload import Sent, Sink, Smtpload
from harness.machine.proc import own_memory
from harness.mailweir.run import Mailweir, Tree, configuration
from harness.networks.own import own_network
from harness.networks.ports import SERVER_HOST
from harness.scale import count
from harness.servers.crowd import connect, crowd
from harness.servers.crowd_server import GREETING, PIECE, allow_descriptors
from harness.waiting import LIMIT, until
from scenarios.conftest import Start

_KB = 1024
_SLOW = count(100, 500)
# Of 64 KiB. Far more than all the buffers between a server and a client hold, which would be
# tens of megabytes if the system's limits were left as they are.
_PIECES = 128
_WHOLE = _PIECES * len(PIECE)
_KERNEL_BUFFERS = "4096 65536 131072"
_SMALL = 4096
_POINTS = count(8, 10)
_APART = count(0.25, 1.0)  # seconds
# One buffer of the relay (64 KiB), and what an idle session costs.
_MOST_STALLED = 72.0  # KB
_ESTABLISHED = "01"  # TCP_ESTABLISHED in /proc/net/tcp
_LOCAL, _REMOTE = 1, 2  # its columns

_IDLE = count(1000, 5000)
# The goal is 4. Few sessions don't fill the pages that they begin.
_MOST_IDLE = count(8.0, 4.0)  # KB
_ROUNDS = 5
# More in the usual round than in the one before. A leak is in every round; in some there are
# more sessions at one worker than it ever had before.
_MOST_AGAIN = count(0.25, 0.1)  # KB

_SILENT = count(1000, 7000)  # as many as 20 000 descriptors have room for, and those who talk
_MAILS = count(200, 1000)
_GONE_AFTER = count(5, 20)  # seconds; all have to be there before the first is gone
# Seconds after that; 5 of them are for clients that don't close when they are told the end.
_LATEST = 10

Counted = Callable[[str], None]


@pytest.fixture(autouse=True)
def _descriptors() -> None:
    allow_descriptors()


@pytest.mark.needs("iproute2")
def test_readers_that_stall_cost_nothing_more(
    tmp_path: Path, start: Start, counted: Counted
) -> None:
    """Servers say far more than their clients read: memory is flat, and every byte arrives."""
    with own_network():
        _small_kernel_buffers()
        with crowd(tmp_path, "flood", _PIECES) as (_, address):
            balancer, before = _started(tmp_path, start, address)
            where = balancer.address()
            clients = [connect(where, _SMALL) for _ in range(_SLOW)]
            _until_nothing_moves(balancer)
            assert _are_speaking(_LOCAL, int(address.rpartition(":")[2])) == _SLOW
            counted(_stalled(balancer, before, "clients that don't read"))

            whole = _digest(GREETING + PIECE * _PIECES)
            with ThreadPoolExecutor(_SLOW) as pool:
                read = Counter(pool.map(_read_to_the_end, clients))
            assert read == {(len(GREETING) + _WHOLE, whole): _SLOW}
            until(lambda: balancer.status()["sessions"] == 0, "all sessions to end")


@pytest.mark.needs("iproute2")
def test_servers_that_stall_cost_nothing_more(
    tmp_path: Path, start: Start, counted: Counted
) -> None:
    """Clients send far more than their servers read: memory is flat, and every byte arrives."""
    with own_network():
        _small_kernel_buffers()
        with crowd(tmp_path, "deaf") as (server, address):
            balancer, before = _started(tmp_path, start, address)
            where = balancer.address()
            clients = [connect(where) for _ in range(_SLOW)]
            with ThreadPoolExecutor(_SLOW) as pool:
                answers = [pool.submit(_send_all, client) for client in clients]
                _until_nothing_moves(balancer)
                assert _are_speaking(_REMOTE, where[1]) == _SLOW
                counted(_stalled(balancer, before, "servers that don't read"))

                server.send(signal.SIGUSR1)
                heard = Counter(answer.result() for answer in answers)
            assert heard == {_digest(PIECE * _PIECES): _SLOW}
            until(lambda: balancer.status()["sessions"] == 0, "all sessions to end")
            received = balancer.metric("mailweir_listener_received_bytes_total", listener="mx")
            assert received == _SLOW * _WHOLE


def test_an_idle_session_costs_little(tmp_path: Path, start: Start, counted: Counted) -> None:
    """A few KB each, which the next ones use again; all can still be used, and end by QUIT."""
    with crowd(tmp_path, "polite") as (_, address):
        balancer, before = _started(tmp_path, start, address)
        costs = []
        for number in range(1, _ROUNDS + 1):
            costs.append((_idle(balancer) - before) / _IDLE / _KB)
            _all_quit(balancer, number * _IDLE)
    growth = [after - before for before, after in pairwise(costs)]
    again = ", ".join(f"{more:+.2f}" for more in growth)
    counted(f"{_IDLE} idle sessions: {costs[0]:.2f} KB each; when done again: {again} KB")
    assert max(costs) < _MOST_IDLE
    assert statistics.median(growth) < _MOST_AGAIN


def test_who_says_nothing_is_gone_in_time(
    tmp_path: Path, start: Start, smtpload: Smtpload, counted: Counted
) -> None:
    """Clients that are greeted and say nothing. Those of the same listener who do, and those of
    another one, get through as if they were alone.
    """
    limits = {"idle_client": f"{_GONE_AFTER}s", "i_accept_duplicates": True}
    with crowd(tmp_path, "polite") as (_, address), smtpload.sink("sink", "--hash") as sink:
        balancer = start(_silent_rig(tmp_path, sink, "smtp", address, limits))
        figures, sent = _are_silent(balancer, smtpload, "silent", GREETING)
        ended = {
            ("silent", "idle_client"): _SILENT,
            ("silent", "client_quit"): _MAILS,
            ("mx", "client_quit"): sent.ok,
        }
        figures += _ended_as(balancer, ended)
        assert {line["server"] for line in _silent(balancer)} == {"silent"}
        _took(sink, sent.acknowledged)
    counted(f"{_SILENT} silent clients (smtp){figures}")


def test_who_says_no_hello_is_gone_in_time(
    tmp_path: Path, start: Start, smtpload: Smtpload, counted: Counted
) -> None:
    """Clients of `smtps` that never begin TLS: no server hears of them, and others get through."""
    limits = {"connect": "1s", "greeting": "2s", "accept_total": f"{_GONE_AFTER}s"}
    with (
        socket.create_server((SERVER_HOST, 0), backlog=100) as unheard,
        smtpload.sink("sink", "--hash") as sink,
    ):
        address = "{}:{}".format(*unheard.getsockname())
        balancer = start(_silent_rig(tmp_path, sink, "smtps", address, limits))
        unheard.accept()[0].close()  # the one check's
        figures, sent = _are_silent(balancer, smtpload, "mx", b"")
        ended = {("silent", "idle_client"): _SILENT, ("mx", "client_quit"): sent.ok + _MAILS}
        figures += _ended_as(balancer, ended)
        assert {line["server"] for line in _silent(balancer)} == {None}
        unheard.setblocking(False)
        with pytest.raises(BlockingIOError):
            unheard.accept()
        _took(sink, sent.acknowledged + _MAILS)
    counted(f"{_SILENT} silent clients (smtps){figures}")


def _started(directory: Path, start: Start, address: str) -> tuple[Mailweir, int]:
    """mailweir before this server, and what memory it has before there are sessions."""
    balancer = start(configuration(directory, {"a": address}, check={"kind": "tcp"}))
    until(lambda: balancer.server_is("a", "up"), "the server to be up")
    # What is made at first use is there before it is counted.
    assert balancer.ended("client_quit") == 0
    return balancer, own_memory(balancer.pid)


def _small_kernel_buffers() -> None:
    """In this network no connection's grow beyond these (least, first, most)."""
    for name in ("tcp_rmem", "tcp_wmem"):
        Path(f"/proc/sys/net/ipv4/{name}").write_text(_KERNEL_BUFFERS)


def _until_nothing_moves(balancer: Mailweir) -> None:
    """Waits until no byte was relayed for a second."""
    last, since = 0.0, time.monotonic()

    def still() -> bool:
        nonlocal last, since
        ways = ("spliced", "copied")
        now = sum(balancer.metric(f"mailweir_relay_{way}_bytes_total") for way in ways)
        if now != last:
            last, since = now, time.monotonic()
        return last > 0 and time.monotonic() - since > 1

    until(still, "everything to stand still", limit=6 * LIMIT)


def _are_speaking(column: int, port: int) -> int:
    """Connections with this port there whose own end isn't said yet, with bytes that wait."""
    rows = map(str.split, Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:])
    found = [row for row in rows if row[column].endswith(f":{port:04X}")]
    return sum(row[3] == _ESTABLISHED and not row[4].startswith("00000000:") for row in found)


def _stalled(balancer: Mailweir, before: int, who: str) -> str:
    """What the figures say; memory is flat while nothing moves."""
    began = time.monotonic()
    points: list[tuple[float, int]] = []
    for number in range(_POINTS):
        # The pace; nothing is waited for.
        time.sleep(max(0.0, began + number * _APART - time.monotonic()))
        points.append((time.monotonic() - began, own_memory(balancer.pid)))
    slope = statistics.linear_regression(*zip(*points, strict=True)).slope
    cost = (points[-1][1] - before) / _SLOW / _KB
    # A leak of one buffer per session and second would be 64 times this.
    assert abs(slope) < _SLOW * _KB, points
    assert cost < _MOST_STALLED
    return (
        f"{_SLOW} {who}: {cost:.2f} KB each, {slope:+.0f} B/s over {points[-1][0]:.1f} s;"
        f" {_WHOLE >> 20} MiB for each arrived in the end"
    )


def _read_to_the_end(client: socket.socket) -> tuple[int, str]:
    """How much came, and its hash."""
    size, seen = 0, hashlib.sha256()
    with client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        while piece := client.recv(1 << 20):
            size += len(piece)
            seen.update(piece)
    return size, seen.hexdigest()


def _send_all(client: socket.socket) -> str:
    """Sends everything, and returns what the server says to that: its hash."""
    with client:
        client.settimeout(6 * LIMIT)
        for _ in range(_PIECES):
            client.sendall(PIECE)
        client.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: client.recv(4096), b""))
    return said.removeprefix(GREETING).decode()


def _digest(whole: bytes) -> str:
    return hashlib.sha256(whole).hexdigest()


def _idle(balancer: Mailweir) -> int:
    """Memory with so many sessions, which are used once more and end then."""
    where = balancer.address()
    with ExitStack() as exits:
        clients = [exits.enter_context(Client(where)) for _ in range(_IDLE)]
        for client in clients:
            client.expect("220")
            client.expect("250", "EHLO client.test")
        assert balancer.status()["sessions"] == _IDLE
        memory = own_memory(balancer.pid)
        for client in clients:
            client.expect("250", "NOOP")
        for client in clients:
            client.expect("221", "QUIT")
            assert client.rest() == b""
    return memory


def _all_quit(balancer: Mailweir, sessions: int) -> None:
    """So many have ended so far, all of them by QUIT, in the metrics and in the log."""
    until(lambda: balancer.ended("client_quit") == sessions, "all in the metrics")
    assert balancer.status()["sessions"] == 0
    until(lambda: len(balancer.session_log()) == sessions, "all in the log")
    assert {line["end_reason"] for line in balancer.session_log()} == {"client_quit"}


def _silent_rig(directory: Path, sink: Sink, protocol: str, address: str, limits: Tree) -> Tree:
    """Beside `mx` a listener `silent`, with a server of its own that is checked once."""
    config = configuration(directory, {"sink": sink.addresses[0]})
    config["listeners"]["silent"] = {
        **{"bind": ["127.0.0.1:0"], "pool": "silent"},
        **{"protocol": protocol, "timeouts": limits},
    }
    config["pools"]["silent"] = {
        "servers": {"silent": address},
        "check": {"kind": "tcp", "every": "1h"},
    }
    return config


def _are_silent(
    balancer: Mailweir, smtpload: Smtpload, others: str, greeting: bytes
) -> tuple[str, Sent]:
    """Clients of `silent` hear this greeting, say nothing, and hear the end and nothing else.
    Meanwhile there is load on `mx`, and mails are sent one by one to the listener `others`.
    """
    for name in ("sink", "silent"):
        until(lambda name=name: balancer.server_is(name, "up"), f"{name} to be up")  # type: ignore[misc]
    options = [f"--duration={_GONE_AFTER + 2}s", "--concurrency=10", "--rate=50"]
    with (
        smtpload.source("load", balancer.address(), *options) as load,
        ExitStack() as exits,
    ):
        where = balancer.address("silent")
        silent = [exits.enter_context(connect(where)) for _ in range(_SILENT)]
        for client in silent if greeting else ():
            assert client.recv(_KB) == greeting
        came = time.monotonic()
        address = balancer.address(others)
        waits = [_greeted_after(address) for _ in range(_MAILS)]
        # Those of the mails are counted out a moment later.
        until(lambda: _active(balancer) <= _SILENT, "the mails' sessions to end")
        assert _active(balancer) == _SILENT, "all are there still"
        for client in silent:
            assert client.recv(_KB) == b""
        assert time.monotonic() - came < _GONE_AFTER + _LATEST
        # They keep their end open as long as they can.
        until(lambda: _active(balancer) == 0, "the silent ones to be gone")
        sent = load.sent(_GONE_AFTER + LIMIT)
    assert (sent.failed, sent.failures) == (0, {})
    percents = statistics.quantiles(waits, n=100)
    assert percents[98] < 1, "at once, on a machine that has other things to do"
    return (
        f"; meanwhile {_MAILS} of {_MAILS} mails taken one by one, greeted after"
        f" {percents[49] * 1000:.1f} ms (p50), {percents[98] * 1000:.1f} ms (p99),"
        f" {max(waits) * 1000:.1f} ms at most, and {sent.ok} sessions of a load, none failed"
    ), sent


def _greeted_after(address: Address) -> float:
    """Sends a mail, which is taken; for how many seconds its greeting was waited for."""
    began = time.monotonic()
    with Client(address) as client:
        client.expect("220")
        waited = time.monotonic() - began
        client.expect("250", "EHLO client.test")
        client.expect("250", "MAIL FROM:<sender@client.test>")
        client.expect("250", "RCPT TO:<box@server.test>")
        client.expect("354", "DATA")
        client.expect("250", "Subject: hello\r\n\r\nhello\r\n.")
        client.expect("221", "QUIT")
        assert client.rest() == b""
    return waited


def _active(balancer: Mailweir) -> int:
    return int(balancer.metric("mailweir_listener_connections_active", listener="silent"))


def _silent(balancer: Mailweir) -> list[Tree]:
    """The lines of those who said nothing."""
    return [line for line in balancer.session_log() if line["end_reason"] == "idle_client"]


def _ended_as(balancer: Mailweir, ended: dict[tuple[str, str], int]) -> str:
    """Log and metrics say so of all sessions, and that the silent ones went at their limit."""
    name = "mailweir_listener_connections_ended_total"
    until(lambda: balancer.status()["sessions"] == 0, "all sessions to end")
    until(lambda: len(balancer.session_log()) == sum(ended.values()), "all in the log")
    log = balancer.session_log()
    assert Counter((line["listener"], line["end_reason"]) for line in log) == ended
    for (listener, reason), sessions in ended.items():
        assert balancer.metric(name, listener=listener, reason=reason) == sessions
    lasted = [line["duration_ms"] / 1000 for line in _silent(balancer)]
    assert _GONE_AFTER <= min(lasted)
    assert max(lasted) < _GONE_AFTER + _LATEST
    return f"; the silent ones gone after {min(lasted):.2f} to {max(lasted):.2f} s"


def _took(sink: Sink, messages: int) -> None:
    """End the servers of `mx`: they have every mail, once."""
    report = sink.report()
    assert report["messages"] == messages
    assert (report["message_ids"]["duplicates"], report["message_ids"]["damaged"]) == ({}, 0)
