"""Crowds on a TCP stack that isn't Linux's, as clients, as servers and as both, by ways that lose,
swap and delay: every byte arrives, and nothing is left of any session.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.kernel_rig import PORT, Rig, kernel_rig, rig_configuration, serving_there
from harness.networks.row import LISTENER, SERVER, Row, row
from harness.scale import LONG, count
from harness.servers.scripted import Stream
from harness.waiting import until
from scenarios.foreign import ADDRESSES, Foreign, Talk, Wire

_LISTENER = (LISTENER, PORT)
_LARGE = count(300_000, 8_000_000)  # bytes of a mail or of a reply
_SMALL = 2_000
_LIMIT = count(60, 600)  # seconds for all sessions of a case
# Of a client of one of the two kinds, at the servers of the other.
_BUFFERS = "--buffer 200000"
_CHECKS = {hashlib.sha256(words).hexdigest() for words in (b"", b"QUIT\r\n")}
# So that servers are known, and have told clients what they take.
_FIRST = 8

pytestmark = [
    pytest.mark.needs("iproute2", "nftables", "clang"),
    pytest.mark.timeout(count(120, 1200), func_only=True),
]


@dataclass(frozen=True)
class _Crowd:
    """So many sessions at a time, of so many mails; `reply` is what a server says to EHLO."""

    sessions: int
    messages: int = 1
    size: int = _SMALL
    reply: int = 100

    def __str__(self) -> str:
        each = f"{self.messages} mails of {self.size} bytes each, replies of {self.reply}"
        return f"{self.sessions} sessions at a time, {each}"

    @property
    def words(self) -> tuple[str, ...]:
        sizes = ("--sessions", str(self.sessions), "--messages", str(self.messages))
        return (*sizes, "--size", str(self.size), "--limit", str(_LIMIT))

    def mail(self, number: int) -> bytes:
        """Lines of another one for each."""
        line = hashlib.sha256(b"%d" % number).hexdigest().encode() + b"\r\n"
        return line * (self.size // len(line)) + b".\r\n"


_CROWDS = {
    "one mail": _Crowd(count(40, 200)),
    "20 mails": _Crowd(count(20, 200), messages=20),
    "a large mail": _Crowd(count(3, 20), size=_LARGE),
    "a large reply": _Crowd(count(3, 20), reply=_LARGE),
    "large both ways": _Crowd(count(20, 200), size=_LARGE, reply=_LARGE),
}
# A server's greeting that comes twice is taken for more than a greeting, by the relay.
_OF_CLIENTS = "--twice 11"
_WAYS = {
    "good": "",
    "losing": "--lose 40",
    "swapping": f"--swap 7 {_OF_CLIENTS}",
    "far": "--delay 20",
    "far, uneven and losing": "--delay 10 --jitter 15 --lose 60 --seed 7",
}
# In the suite a few, which have each of these once; otherwise all.
_FOREIGN = {"clients": 1, "servers": 1, "both": 2}
_FEW = [
    ("clients", "one mail", "far, uneven and losing"),
    ("clients", "large both ways", "losing"),
    ("servers", "one mail", "far, uneven and losing"),
    ("servers", "a large reply", "swapping"),
    ("both", "20 mails", "swapping"),
    ("both", "a large mail", "far"),
    ("both", "one mail", "good"),
    ("both", "large both ways", "good"),
]
_ALL = [
    (ends, crowd, way)
    for ends in _FOREIGN
    for crowd, way in itertools.product(_CROWDS, _WAYS)
    # Hundreds of large ones have enough to do as it is.
    if way == "good" or crowd != "large both ways"
]


@pytest.mark.parametrize(("ends", "crowd", "way"), _ALL if LONG else _FEW)
def test_every_byte_arrives(
    tmp_path: Path,
    smtpload_binary: Path,
    counted: Callable[[str], None],
    ends: str,
    crowd: str,
    way: str,
) -> None:
    load, habits = _CROWDS[crowd], f"{_BUFFERS} {_WAYS[way]}"
    with row() as networks:
        for network in "cs":
            # BBR, which a machine may have, takes a burst that was lost for a slow way.
            networks.run(network, "sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno")
        foreign = Foreign(smtpload_binary.with_name("foreign"), networks)
        of_servers = habits.replace(_OF_CLIENTS, "")
        with _servers(tmp_path, foreign, load, of_servers, ends != "clients") as servers:
            config = rig_configuration(tmp_path)
            config["pools"]["farm"]["servers"]["a"]["address"] = f"{servers.host}:{PORT}"
            with kernel_rig(networks, tmp_path, config) as rig:
                relayed = _known(rig, foreign, servers)
                clients, of_clients = _clients(foreign, load, habits, ends != "servers")
                until(lambda: len(servers.talks()) == relayed + load.sessions, "servers to be done")
                _nothing_is_left(rig, relayed + load.sessions)
                log = rig.balancer.session_log()[relayed:]
                wires = {"clients": of_clients, "servers": servers.wire()}
    said = [f"{who}: {wire or 'Linux'}" for who, wire in wires.items()]
    counted("; ".join([str(load), *said]))
    # Else it would tell of its own ends, and not of what is between them.
    assert [wire.lost_for_want_of_room for wire in wires.values() if wire] == [0] * _FOREIGN[ends]
    assert Counter(talk.outcome for talk in clients) == {"fine": load.sessions}
    heard = Counter((talk.said, talk.heard) for talk in clients)
    assert heard == Counter((talk.heard, talk.said) for talk in servers.talks()[relayed:])
    assert len({line["id"] for line in log}) == len(log) == load.sessions
    assert Counter(line["path"] for line in log) == {"kernel": load.sessions}
    assert Counter(line["end_reason"] for line in log) == {"client_quit": load.sessions}
    assert all(line["received_bytes"] >= load.messages * load.size * 0.9 for line in log)
    assert all(line["sent_bytes"] >= load.reply * 0.9 for line in log)


def _known(rig: Rig, foreign: Foreign, servers: "_Servers") -> int:
    """Sessions that it took until the kernel carried one: of a new server it may not."""
    for turn in range(1, _FIRST):
        (talk,), _ = _clients_of(foreign, _BUFFERS, "--limit", str(_LIMIT))
        assert talk.outcome == "fine"
        until(lambda: len(servers.talks()) == turn, "the server to be done")  # noqa: B023
        if rig.record(turn)["path"] == "kernel":
            return turn
    raise AssertionError("no session of these is ever carried by the kernel")


def _nothing_is_left(rig: Rig, sessions: int) -> None:
    until(lambda: len(rig.balancer.session_log()) >= sessions, "all in the log")
    until(lambda: rig.flows() == 0, "no flow to be left")
    places = partial(rig.balancer.metric, "mailweir_kernel_path_places_taken")
    until(lambda: places() == 0, "no place to be left")
    assert rig.balancer.servers()["a"]["active"] == 0
    assert rig.balancer.status()["sessions"] == 0


@dataclass(frozen=True)
class _Servers:
    """Of either kind: where, what was said there, and what became of what they sent."""

    host: str
    talks: Callable[[], list[Talk]]
    wire: Callable[[], Wire | None]


@contextmanager
def _servers(
    directory: Path, foreign: Foreign, load: _Crowd, habits: str, are_foreign: bool
) -> Iterator[_Servers]:
    if are_foreign:
        # A few more, for those whose end isn't through yet.
        more = ("--places", str(load.sessions + 20), "--reply", str(load.reply))
        with foreign.sink(directory, PORT, habits, *more) as sink:
            yield _Servers(ADDRESSES["s"], lambda: _spoken(sink.talks()), sink.wire)
        return
    talks: list[Talk] = []
    with serving_there(foreign.networks, partial(_serve, talks, load)):
        yield _Servers(SERVER, lambda: _spoken(talks), lambda: None)


def _spoken(talks: list[Talk]) -> list[Talk]:
    """Those with a client: a check says QUIT alone."""
    return [talk for talk in talks if talk.heard not in _CHECKS]


def _clients(
    foreign: Foreign, load: _Crowd, habits: str, are_foreign: bool
) -> tuple[list[Talk], Wire | None]:
    """What was said, and what became of what they sent."""
    if not are_foreign:
        return _linux_clients(foreign.networks, load), None
    return _clients_of(foreign, habits, *load.words)


def _clients_of(foreign: Foreign, habits: str, *words: str) -> tuple[list[Talk], Wire]:
    return foreign.clients_and_wire(_LISTENER, habits, *words, limit=2 * _LIMIT)


def _serve(talks: list[Talk], load: _Crowd, stream: Stream) -> None:
    """A server on Linux that takes mails."""
    said, heard = hashlib.sha256(), hashlib.sha256()
    stream.socket.settimeout(_LIMIT)

    def say(reply: bytes) -> None:
        said.update(reply)
        stream.send(reply)

    say(b"220 mx.server.test ESMTP\r\n")
    in_mail = False
    while line := stream.line():
        heard.update(line)
        if in_mail:
            in_mail = line != b".\r\n"
            if not in_mail:
                say(b"250 taken\r\n")
        elif line == b"QUIT\r\n":
            say(b"221 bye\r\n")
            break
        elif line == b"DATA\r\n":
            in_mail = True
            say(b"354 go\r\n")
        else:
            if line.startswith(b"EHLO"):
                words = b"250-X-WORDS " + b"x" * 60 + b"\r\n"
                say(words * (load.reply // len(words)))
            say(b"250 fine\r\n")
    talks.append(Talk(said.hexdigest(), heard.hexdigest()))


def _linux_clients(networks: Row, load: _Crowd) -> list[Talk]:
    with ThreadPoolExecutor(load.sessions) as threads:
        talk = lambda number: networks.inside("c", partial(_talk, load, number)).result(_LIMIT)  # noqa: E731
        return list(threads.map(talk, range(load.sessions)))


def _talk(load: _Crowd, number: int) -> Talk:
    said, heard = hashlib.sha256(), hashlib.sha256()
    with Client(_LISTENER) as client:
        client.socket.settimeout(_LIMIT)

        def hear(code: str) -> None:
            while True:
                line = client.read_line()
                heard.update(line)
                if line[3:4] != b"-":
                    assert line.startswith(code.encode()), line
                    return

        def say(words: bytes, code: str) -> None:
            said.update(words)
            client.send(words)
            hear(code)

        hear("220")
        say(b"EHLO linux.test\r\n", "250")
        for message in range(load.messages):
            say(b"MAIL FROM:<a@linux.test>\r\n", "250")
            say(b"RCPT TO:<b@server.test>\r\n", "250")
            say(b"DATA\r\n", "354")
            say(load.mail(1000 * number + message), "250")
        say(b"QUIT\r\n", "221")
        assert client.rest() == b""
    return Talk(said.hexdigest(), heard.hexdigest(), "fine")
