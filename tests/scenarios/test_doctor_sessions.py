"""What `mailweir doctor` says to servers, and what it makes of those that say odd things; how it
ends; what it finds of the machine. Real servers are in `test_doctor.py`.
"""

import json
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.run import COMMAND, Tree, configuration, write
from harness.networks.own import own_network
from harness.networks.ports import SERVER_HOST, refusing
from harness.process import run
from harness.scale import count
from harness.servers.scripted import Handle, Stream, serving
from harness.waiting import until
from scenarios.conftest import Start

Counted = Callable[[str], None]

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
# Seconds. Real servers wait for 3 to 5; here it may be shorter than all that comes after it.
_FOR_A_HEADER = 3.0
_HOSTILE = count(40, 400)  # servers
_ENDLESS = 1 << 20  # bytes of a line, or of a reply
_WORDS = (
    b"\x1b]0;owned\x07", b"\x1b[2J\x1b[31m", b"\x9b2J", "\x9b31m\u202e\u2066".encode(), b"caf\xe9",
    b"\xff\xfe\xc0\x80", b"\0\b\x0b\x0c\x7f\x85", b"\xed\xa0\x80", b"A" * 1900,
)  # fmt: skip


class Server:
    """One that does as a test wants; `said` is what each session said, line by line."""

    def __init__(self, version: int = 0, *, local: bool = True, name: str = "mx.test") -> None:
        self.said: list[list[bytes]] = []
        self._version = version
        self._local = local
        self._name = name.encode()

    def serve(self, stream: Stream) -> None:
        lines: list[bytes] = []
        self.said.append(lines)
        if not self._header(stream):
            return
        stream.send(b"220-%b ESMTP\r\n220 ready\r\n" % self._name)
        while line := stream.line():
            lines.append(line)
            stream.send(self._answer(line))
            if line == b"QUIT\r\n":
                self.leave(stream)
                stream.end()
                # Whoever waits for the answer is there still.
                assert stream.line() == b""
                lines.append(b"")
                return

    def leave(self, stream: Stream) -> None:
        """It has said its last word, and is about to close."""

    def _header(self, stream: Stream) -> bool:
        """Whether it is the one that is expected."""
        if self._version == 0:
            return True
        stream.socket.settimeout(_FOR_A_HEADER)
        if self._version == 1:
            return stream.exactly(6) == b"PROXY " and bool(stream.line())
        if stream.exactly(12) != _SIGNATURE:
            return False
        command, *_ = first = stream.exactly(4)
        stream.exactly(int.from_bytes(first[2:], "big"))
        return self._local or command == 0x21

    def _answer(self, line: bytes) -> bytes:
        match line[:4]:
            case b"EHLO":
                return b"250-%b\r\n250 PIPELINING\r\n" % self._name
            case b"RCPT":
                return b"550 5.7.1 not here\r\n"
            case b"QUIT":
                return b"221 bye\r\n"
            case b"HELP":
                return b"502 no\r\n"
            case _:
                return b"250 ok\r\n"


_LAST_WORD = 0.2  # seconds


class Counting(Server):
    """One that calls itself Postfix, and takes so many sessions at a time; `most` is how many there
    were.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(name="mx.test ESMTP Postfix")
        self.most = 0
        self._limit = limit
        self._open: set[Stream] = set()
        self._lock = threading.Lock()

    def serve(self, stream: Stream) -> None:
        with self._lock:
            self._open.add(stream)
            self.most = max(self.most, len(self._open))
            refused = len(self._open) > self._limit
        try:
            if refused:
                stream.send(b"421 4.7.0 mx.test Error: too many connections from 127.0.0.1\r\n")
            else:
                super().serve(stream)
        finally:
            self._forget(stream)

    def leave(self, stream: Stream) -> None:
        # As Postfix, a moment after its last word.
        time.sleep(_LAST_WORD)
        self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        with self._lock:
            self._open.discard(stream)


def _doctor(
    file: Path, config: Tree, *more: str, as_json: bool = True
) -> subprocess.CompletedProcess[str]:
    write(file, config)
    told = ["--json"] if as_json else []
    return run([*COMMAND, "doctor", "-c", str(file), *told, *more], limit=100)


def _findings(done: subprocess.CompletedProcess[str]) -> list[Tree]:
    assert done.stderr == ""
    found: list[Tree] = json.loads(done.stdout)["findings"]
    assert done.returncode == (1 if found else 0)
    return found


def _of_server(directory: Path, server: Server, proxy: str, **listener: object) -> list[Tree]:
    with serving(server.serve) as address:
        config = configuration(directory, {"a": {"address": address, "proxy": proxy}})
        config["listeners"]["mx"] |= listener
        return _findings(_doctor(directory / "mailweir.yaml", config, "--pool", "farm"))


def test_no_mail_and_always_a_farewell(tmp_path: Path) -> None:
    server = Server()
    assert _of_server(tmp_path, server, "off") == []
    own = b"[127.0.0.1]"
    assert server.said == [
        [
            b"EHLO " + own + b"\r\n",
            b"MAIL FROM:<>\r\n",
            b"RCPT TO:<mailweir-doctor@example.com>\r\n",
            b"RSET\r\n",
            b"HELP\r\n",
            b"QUIT\r\n",
            b"",
        ]
    ]


def test_sessions_with_headers(tmp_path: Path) -> None:
    server = Server(2)
    assert _of_server(tmp_path, server, "v2", bind=["127.0.0.1:0", "[::1]:0"]) == []
    # As a check has it, as a client of IPv4, which asks for a relay, and as one of IPv6.
    names = [lines[0].split()[1] for lines in server.said]
    assert names == [b"[127.0.0.1]", b"[192.0.2.1]", b"[IPv6:2001:db8::1]"]
    assert [b"RSET\r\n" in lines for lines in server.said] == [False, True, False]
    assert all(lines[-2:] == [b"QUIT\r\n", b""] for lines in server.said)


@pytest.mark.parametrize(("version", "proxy"), [(1, "v2"), (2, "v1")])
def test_the_wrong_version(tmp_path: Path, version: int, proxy: str) -> None:
    [found] = _of_server(tmp_path, Server(version), proxy)
    assert found["ailment"] == "proxy"
    assert found["change"].startswith(f"here pools.farm.servers.a.proxy: v{version}; ")


def test_a_server_that_does_not_know_local(tmp_path: Path) -> None:
    [found] = _of_server(tmp_path, Server(2, local=False), "v2")
    assert found["ailment"] == "proxy"
    assert "but not those of checks: LOCAL" in found["wrong"]


def test_hostile_words_never_get_through(tmp_path: Path, counted: Counted) -> None:
    serve = _hostile(Random(1))  # noqa: S311 - chooses what is said, keeps no secret
    with ExitStack() as exits:
        # Each a host of its own: those of one host wait for each other.
        hosts = (f"127.0.{2 + n // 250}.{n % 250 + 1}" for n in range(_HOSTILE))
        servers = {
            f"s{n}": exits.enter_context(serving(serve, (host, 0))) for n, host in enumerate(hosts)
        }
        config = configuration(tmp_path, servers)
        file = tmp_path / "mailweir.yaml"
        for as_json in (True, False):
            done = _doctor(file, config, "--pool", "farm", as_json=as_json)
            assert (done.returncode, done.stderr) == (1, "")
            lines = done.stdout.splitlines()
            assert all(line.isprintable() and line.isascii() for line in lines)
            # What is to be changed is ours to say, and takes the most.
            assert max(map(len, lines)) < 1000
    counted(f"{_HOSTILE} servers, {len(lines)} lines, the longest {max(map(len, lines))}")


@pytest.mark.parametrize(
    "said",
    [
        b"454 4.7.0 TLS not available due to local problem\r\n",
        b"220 go\r\n",
        b"220 go\r\nno TLS\r\n",
        b"220 go\r\n\x16\x03\x03\xff\xff",
        b"220 go\r\n" + b"\x15\x03\x01\0\2\2(" * 99,
    ],
)
def test_tls_that_is_none(tmp_path: Path, said: bytes) -> None:
    def serve(stream: Stream) -> None:
        stream.send(b"220 mx.test\r\n")
        while line := stream.line():
            match line[:4]:
                case b"EHLO":
                    stream.send(b"250-mx.test\r\n250 STARTTLS\r\n")
                case b"RCPT":
                    stream.send(b"550 no\r\n")
                case b"STAR":
                    stream.send(said)
                    if said.startswith(b"220"):
                        return
                case _:
                    stream.send(b"250 ok\r\n")

    with serving(serve) as address:
        config = configuration(tmp_path, {"a": address})
        [found] = _findings(_doctor(tmp_path / "mailweir.yaml", config, "--pool", "farm"))
    assert found["ailment"] == "certificate"
    assert "offers STARTTLS, and it fails" in found["wrong"]


def _hostile(random: Random) -> Handle:
    """Servers of which each session is another one."""

    def words() -> bytes:
        return b" ".join(random.choices(_WORDS, k=random.randrange(1, 3)))

    def serve(stream: Stream) -> None:
        greeting, *answers = random.choice(
            (
                [words() + b"\r\n"],
                [b"554-" + words() + b"\r\n554 " + words() + b"\r\n"],
                [b"220 " + words() + b"\r\n", b"550 EHLO " + words() + b"\r\n"],
                [b"220 mx.test\r\n", b"250-mx.test\r\n250 " + words() + b"\r\n"],
                [b"220 " + b"A" * _ENDLESS],
                [(b"220-" + words() + b"\r\n") * (_ENDLESS // 20)],
            )
        )
        stream.send(greeting)
        for answer in answers:
            stream.line()
            stream.send(answer)
        stream.line()

    return serve


def test_how_it_ends(tmp_path: Path) -> None:
    file = tmp_path / "mailweir.yaml"
    with refusing() as nobody:
        config = configuration(tmp_path, {"a": nobody})
        [found] = _findings(_doctor(file, config, "--pool", "farm"))
        assert (found["ailment"], "Connection refused" in found["wrong"]) == ("connect", True)
        shown = _doctor(file, config, "--pool", "farm", as_json=False)
        assert shown.returncode == 1
        assert f"farm/a ({nobody}): connect: " in shown.stdout
        unknown = _doctor(file, config, "--pool", "other")
        assert (unknown.returncode, "there is no pool other" in unknown.stderr) == (1, True)
    config["pools"] = {}
    bad = _doctor(file, config)
    assert bad.returncode == 78
    assert json.loads(bad.stdout)["problems"]


def test_beside_a_running_process(tmp_path: Path, start: Start) -> None:
    server = Server()
    with serving(server.serve) as address:
        config = configuration(tmp_path, {"a": {"address": address, "proxy": "off"}})
        balancer = start(config)
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        listening = "{}:{}".format(*balancer.address())
        before = balancer.status()
        config["listeners"]["mx"]["bind"] = [listening]
        write(tmp_path / "doctor.yaml", config)
        command = ["doctor", "-c", str(tmp_path / "doctor.yaml"), "--json"]
        found = _findings(balancer.command(*command))
        # It is its own port; and what is to be said of the machine depends on the machine.
        assert "port_taken" not in {one["ailment"] for one in found}
        after = balancer.status()
        for key in ("generation", "operator", "config", "sessions", "max_sessions"):
            assert after[key] == before[key], key
        # Nobody is asked: then it is another process.
        alone = run([*COMMAND, *command, "--socket", str(tmp_path / "none.sock")], limit=100)
        [taken] = [one for one in _findings(alone) if one["ailment"] == "port_taken"]
        assert taken["where"] == "listeners.mx"
        assert f"(pid {balancer.pid}) listens at {listening}" in taken["wrong"]


def test_a_limit_that_sessions_of_the_process_count_for(tmp_path: Path, start: Start) -> None:
    server = Counting(5)
    with serving(server.serve) as address:
        config = configuration(tmp_path, {"a": {"address": address}}, check={"every": "1h"})
        balancer = start(config)
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        with Client(balancer.address()) as one, Client(balancer.address()) as other:
            for client in (one, other):
                client.expect("220")
            done = balancer.command("doctor", "-c", str(balancer.file), "--pool", "farm", "--json")
        [found] = _findings(done)
    # A check is one of the five.
    assert "; or here pools.farm.servers.a.max_sessions: 4, which" in found["change"]
    # No more than it takes.
    assert server.most == 6


@pytest.mark.needs("iproute2")
def test_the_way_out(tmp_path: Path) -> None:
    server = Server()
    outwards = ("--pool", "farm", "--outwards")
    with own_network(), serving(server.serve, (SERVER_HOST, 25)) as address:
        config = configuration(tmp_path, {"a": {"address": address, "proxy": "off"}})
        file = tmp_path / "mailweir.yaml"
        assert _findings(_doctor(file, config, *outwards, SERVER_HOST)) == []
        assert server.said[-1][-2:] == [b"QUIT\r\n", b""]
        [closed] = _findings(_doctor(file, config, *outwards, "127.0.0.9"))
        assert closed["ailment"] == "outwards"
        assert "port 25 of 127.0.0.9 can't be reached from here" in closed["wrong"]
        [unknown] = _findings(_doctor(file, config, *outwards, "no-such-name.invalid"))
        assert "can't be tried: no-such-name.invalid has no address" in unknown["wrong"]
        assert unknown["change"].startswith("write another name")
