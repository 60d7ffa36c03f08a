"""Peers on a TCP stack that isn't Linux's: whatever their habits, each session ends as it should.

The stack (smoltcp) has addresses that no kernel has, and reads frames by itself.
"""

import hashlib
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.mailweir.kernel_rig import (
    GREETING,
    PORT,
    Rig,
    kernel_rig,
    polite,
    rig_before,
    rig_configuration,
    serving_there,
)
from harness.mailweir.run import Tree
from harness.networks.row import LISTENER, row
from harness.networks.slow_path import Way, slow_path
from harness.servers.scripted import Stream
from harness.waiting import until
from scenarios.foreign import ADDRESSES, Foreign, Sink, Talk

_SESSIONS = 3
_LISTENER = (LISTENER, PORT)
# More than the smallest windows take: its reader has to be waited for.
_REPLY = b"".join(b"250-X-%04d %s\r\n" % (number, b"x" * 45) for number in range(40))
# A server so far away that its first acknowledgement comes behind all that a window takes.
_FAR = Way(delay=0.15)

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


@dataclass
class _Server:
    """Takes mails, and keeps hashes of what it said and heard in each session."""

    talks: list[Talk] = field(default_factory=list)

    def __call__(self, stream: Stream) -> None:
        said, heard = hashlib.sha256(), hashlib.sha256()
        try:
            for reply in self._replies(stream, heard):
                said.update(reply)
                stream.send(reply)
        finally:
            self.talks.append(Talk(said.hexdigest(), heard.hexdigest()))

    def _replies(self, stream: Stream, heard: Any) -> Iterator[bytes]:
        yield GREETING
        in_mail = False
        while line := stream.line():
            heard.update(line)
            if in_mail:
                in_mail = line != b".\r\n"
                if not in_mail:
                    yield b"250 taken\r\n"
            elif line == b"QUIT\r\n":
                yield b"221 bye\r\n"
                return
            elif line == b"DATA\r\n":
                in_mail = True
                yield b"354 go\r\n"
            else:
                yield (_REPLY if line.startswith(b"EHLO") else b"") + b"250 fine\r\n"


def _is_over(rig: Rig, sessions: int) -> list[Tree]:
    """The records of so many sessions, once nothing is left of any."""
    until(lambda: rig.flows() == 0, "no flow to be left")
    until(lambda: len(rig.balancer.session_log()) >= sessions, "all in the log")
    log = rig.balancer.session_log()
    assert len(log) == sessions
    assert rig.balancer.servers()["a"]["active"] == 0
    return log


def _agree(clients: list[Talk], servers: list[Talk]) -> None:
    """Each client was heard as it spoke, and heard what was said."""
    assert [talk.outcome for talk in clients] == ["fine"] * _SESSIONS
    heard = {(talk.said, talk.heard) for talk in clients}
    until(lambda: len(servers) >= _SESSIONS, "the servers to be done")
    assert heard == {
        (talk.heard, talk.said) for talk in servers if (talk.heard, talk.said) in heard
    }


@pytest.mark.parametrize(
    "habits",
    [
        "",
        "--no-scale",
        "--no-timestamps",
        "--no-timestamps --no-scale --chop 700 --lose 30",
        "--mss 536",
        "--mss 535",
        "--mss 89",
        "--buffer 700",
        "--buffer 700 --no-scale",
        # Who keeps a server from asking for a window, which it does once it is left in peace.
        "--buffer 500 --keep-alive 20",
        "--keep-alive 20",
        "--chop 1",
        "--chop 700 --lose 30",
        "--swap 3 --twice 2",
        "--chop 5 --swap 4 --twice 3",
        "--no-df --ttl 1",
        "--ttl 255 --no-push --padding 6",
        "--odd-options",
        "--congested",
        # Numbers that begin again from 0, in the middle of commands and of the mail.
        "--begin-at 4294967295",
        "--begin-at 4294967270",
        "--begin-at 4294940000 --swap 5",
        "--clock 4294967290",
        "--clock 2147483640",
    ],
)
def test_what_the_kernel_path_carries(tmp_path: Path, smtpload_binary: Path, habits: str) -> None:
    """Every byte arrives as it was sent, and no session is left behind."""
    server = _Server()
    with rig_before(tmp_path, server) as rig:
        foreign = Foreign(smtpload_binary.with_name("foreign"), rig.networks)
        sizes = ("--sessions", str(_SESSIONS), "--size", "20000", "--pause", "300")
        clients = foreign.clients(_LISTENER, habits, *sizes)
        _agree(clients, server.talks)
        log = _is_over(rig, _SESSIONS)
    assert {line["path"] for line in log} == {"kernel"}
    assert {line["end_reason"] for line in log} == {"client_quit"}


@pytest.mark.parametrize(
    ("habits", "reason"),
    [
        ("--clock 0", "clock"),
        ("--mss 87", "segment_size"),
        # It has no room for the smallest segment that a server can be told of.
        ("--buffer 87", "segment_size"),
        # The program leaves frames with a tag to the stack, which takes these for untagged.
        ("--priority-tag", "unseen"),
    ],
)
def test_what_takes_the_relay(
    tmp_path: Path, smtpload_binary: Path, habits: str, reason: str
) -> None:
    server = _Server()
    with rig_before(tmp_path, server) as rig:
        foreign = Foreign(smtpload_binary.with_name("foreign"), rig.networks)
        sizes = ("--sessions", str(_SESSIONS), "--size", "5000")
        _agree(foreign.clients(_LISTENER, habits, *sizes), server.talks)
        log = _is_over(rig, _SESSIONS)
        assert rig.relayed(reason) == _SESSIONS
    assert {line["path"] for line in log} <= {"copy", "splice"}
    assert {line["end_reason"] for line in log} == {"client_quit"}


def test_an_early_talker_whose_first_bytes_are_lost(tmp_path: Path, smtpload_binary: Path) -> None:
    """What came has no beginning yet, and is acknowledged: the server has to be told of it."""
    server = _Server()
    with rig_before(tmp_path, server) as rig, ThreadPoolExecutor() as threads:
        foreign = Foreign(smtpload_binary.with_name("foreign"), rig.networks)
        # All of it is there before anybody accepts.
        rig.balancer.process.send(signal.SIGSTOP)
        # So few pieces that nothing of it is said again at once (RFC 5681, 3.2).
        habits = "--chop 10 --lose-first"
        talks = threads.submit(foreign.clients, _LISTENER, habits, "--early")
        until(lambda: "rcv_ooopack" in _sockets(rig), "segments without their beginning")
        rig.balancer.process.send(signal.SIGCONT)
        (client,) = talks.result()
        assert client.outcome == "fine"
        (line,) = _is_over(rig, 1)
        assert rig.relayed("early_talker") == 1
    assert (client.said, client.heard) in {(talk.heard, talk.said) for talk in server.talks}
    assert line["end_reason"] == "client_quit"


def _sockets(rig: Rig) -> str:
    which = ("state", "established", f"sport = :{PORT}")
    return rig.networks.run("l", "ss", "--no-header", "-tino", *which)


@pytest.mark.parametrize(
    ("end", "habits", "reason"),
    [
        ("half", "", "client_quit"),
        ("half", "--chop 1", "client_quit"),
        ("half", "--chop 700 --lose 15", "client_quit"),
        ("half", "--twice 2 --swap 3", "client_quit"),
        ("reset", "", "client_quit"),
        ("reset", "--chop 1", "client_quit"),
        ("reset", "--begin-at 4294967000", "client_quit"),
        ("cut", "", "cut_in_data"),
        ("leave", "", "client_closed"),
        ("leave", "--chop 1 --twice 3", "client_closed"),
    ],
)
def test_how_its_sessions_end(
    tmp_path: Path, smtpload_binary: Path, end: str, habits: str, reason: str
) -> None:
    with rig_before(tmp_path, polite) as rig:
        foreign = Foreign(smtpload_binary.with_name("foreign"), rig.networks)
        what = ("--sessions", str(_SESSIONS), "--size", "3000", "--end", end)
        clients = foreign.clients(_LISTENER, habits, *what)
        assert [talk.outcome for talk in clients] == ["fine"] * _SESSIONS
        log = _is_over(rig, _SESSIONS)
    assert {line["path"] for line in log} == {"kernel"}
    assert {line["end_reason"] for line in log} == {reason}


def test_all_of_a_window_at_once(tmp_path: Path, smtpload_binary: Path) -> None:
    """One that says as much as our greeting allowed before the server has acknowledged anything: it
    is known what it said, and that it has ended.
    """
    server = _Server()
    with row() as networks, slow_path(networks, "s", _FAR):
        config = rig_configuration(tmp_path)
        with serving_there(networks, server), kernel_rig(networks, tmp_path, config) as rig:
            foreign = Foreign(smtpload_binary.with_name("foreign"), networks)
            what = ("--sessions", str(_SESSIONS), "--size", "220000", "--hasty")
            _agree(foreign.clients(_LISTENER, "", *what), server.talks)
            log = _is_over(rig, _SESSIONS)
    assert {line["path"] for line in log} == {"kernel"}
    assert {line["end_reason"] for line in log} == {"client_quit"}
    assert all(line["received_bytes"] > 220_000 for line in log)


@pytest.mark.parametrize(
    ("habits", "path"),
    [
        ("", "kernel"),
        ("--no-scale", "kernel"),
        ("--buffer 4000", "kernel"),
        ("--chop 40", "kernel"),
        # A greeting whose second copy is there in time is taken for more than a greeting.
        ("--chop 40 --twice 1", "either"),
        ("--chop 700 --lose 30", "kernel"),
        ("--swap 3 --odd-options", "kernel"),
        ("--begin-at 4294967290 --keep-alive 20", "kernel"),
        ("--clock 4294967290 --congested", "kernel"),
        ("--no-timestamps", "kernel"),
        ("--mss 536", "relay"),
        # The client was told that it may send more than that.
        ("--buffer 700", "relay"),
        ("--priority-tag", "relay"),
    ],
)
def test_servers(tmp_path: Path, smtpload_binary: Path, habits: str, path: str) -> None:
    """As with clients, which have the same stack here and no habits."""
    config = rig_configuration(tmp_path)
    config["pools"]["farm"]["servers"]["a"]["address"] = f"{ADDRESSES['s']}:{PORT}"
    with row() as networks:
        foreign = Foreign(smtpload_binary.with_name("foreign"), networks)
        with (
            foreign.sink(tmp_path, PORT, habits, "--reply", "3000") as sink,
            kernel_rig(networks, tmp_path, config) as rig,
        ):
            # Until its window scale is known, and told to clients.
            paths: set[str] = set()
            for turn in range(1, 6):
                sizes = ("--sessions", str(_SESSIONS), "--size", "20000")
                clients = foreign.clients(_LISTENER, "", *sizes)
                _all_said(sink, turn * _SESSIONS)
                _agree(clients, sink.talks())
                log = _is_over(rig, turn * _SESSIONS)
                assert {line["end_reason"] for line in log} == {"client_quit"}
                paths = {line["path"] for line in log[-_SESSIONS:]}
                if paths == {"kernel"}:
                    break
    assert path == "either" or (paths == {"kernel"}) == (path == "kernel")


def _all_said(sink: Sink, sessions: int) -> None:
    until(lambda: len(sink.talks()) >= sessions, "the servers to be done")
