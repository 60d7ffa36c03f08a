"""Silent peers of flows are asked whether they are there, as those of relayed sessions are: both
live as long as they answer, and one that is gone ends the session.

Here they are asked after one second instead of 60, and have 6 seconds instead of 720. How long it
is between two keepalives the network says.
"""

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.machine.proc import descriptors
from harness.mailweir.kernel_rig import GREETING, PORT, polite, serving_there
from harness.mailweir.run import Tree
from harness.networks.row import CLIENT, LISTENER, SERVER, Row, bpf_files, row
from harness.process import Running
from harness.scale import count
from harness.servers.scripted import Stream
from harness.waiting import LIMIT, until
from scenarios.foreign import Foreign
from scenarios.victims import LOG, Counts, Victim, counts

_INTERVAL = "net.ipv4.tcp_keepalive_intvl"
_PEERS = {"c": CLIENT, "s": SERVER}
# So many keepalives take longer than a peer has that doesn't answer: there is one in two seconds,
# or fewer, for each of two peers.
_MANY = 12
_FLOWS = count(200, 1000)
_ASKED = count(2, 10)  # times for each flow, while it is measured

pytestmark = pytest.mark.needs("iproute2", "nftables", "procps", "clang")


@dataclass(frozen=True)
class _Segment:
    """One of TCP, in one direction of the one session that there is."""

    source: str
    seq: int
    ack: int
    flags: int
    window: int
    size: int
    tsval: int | None

    @classmethod
    def parse(cls, packet: bytes) -> "_Segment | None":
        """None where it isn't of TCP."""
        head = (packet[0] & 0xF) * 4
        if packet[9] != socket.IPPROTO_TCP:
            return None
        (length,) = struct.unpack_from("!H", packet, 2)
        tcp = packet[head:length]
        seq, ack, offset, flags, window = struct.unpack_from("!IIBBH", tcp, 4)
        own = (offset >> 4) * 4
        options = tcp[20:own]
        tsval = None
        if options[:4] == b"\1\1\x08\x0a":
            (tsval,) = struct.unpack_from("!I", options, 4)
        source = socket.inet_ntoa(packet[12:16])
        return cls(source, seq, ack, flags, window, len(tcp) - own, tsval)


class _Ear:
    """What a peer hears and says, as its interface sees it."""

    def __init__(self, networks: Row, network: str) -> None:
        self._peer = _PEERS[network]

        def listen() -> socket.socket:
            return socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))

        self._socket = networks.inside(network, listen).result(LIMIT)
        self._socket.setblocking(False)
        self.segments: list[_Segment] = []

    def close(self) -> None:
        self._socket.close()

    def keepalives(self) -> list[tuple[_Segment, list[_Segment]]]:
        """Those that the peer was asked by so far, each with what it said until the next."""
        while True:
            try:
                packet = self._socket.recv(1 << 16)
            except BlockingIOError:
                break
            if packet[0] >> 4 == 4 and (segment := _Segment.parse(packet)):
                self.segments.append(segment)
        found: list[tuple[_Segment, list[_Segment]]] = []
        acked = None
        for segment in self.segments:
            if segment.source == self._peer:
                acked = segment.ack
                if found:
                    found[-1][1].append(segment)
            elif acked is not None and segment.seq == (acked - 1) % (1 << 32) and not segment.size:
                found.append((segment, []))
        return found


@contextmanager
def _networks() -> Iterator[Row]:
    bpf_files()
    with row() as networks:
        networks.run("l", "sysctl", "-qw", f"{_INTERVAL}=1")
        yield networks


def _counts(process: Running) -> Counts:
    return counts(process) or Counts()


def _client(networks: Row) -> Client:
    client = networks.inside("c", lambda: Client((LISTENER, PORT))).result(LIMIT)
    client.expect("220")
    client.expect("250", "EHLO client.test")
    return client


@pytest.mark.parametrize("timestamps", ["1", "0"])
def test_both_peers_are_asked_and_live(tmp_path: Path, victim: Path, timestamps: str) -> None:
    """With a number that has to be answered, and no time that the peer has heard a later of."""
    with _networks() as networks, ExitStack() as exits:
        networks.run("c", "sysctl", "-qw", f"net.ipv4.tcp_timestamps={timestamps}")
        ears = {one: _Ear(networks, one) for one in "cs"}
        for ear in ears.values():
            exits.callback(ear.close)
        exits.enter_context(serving_there(networks, polite))
        process = exits.enter_context(Victim(victim, networks, tmp_path).runs("balancer", "asks"))
        client = exits.enter_context(_client(networks))
        until(lambda: _counts(process).keepalives >= _MANY, "many keepalives", limit=2 * LIMIT)
        found = {one: ear.keepalives() for one, ear in ears.items()}
        assert _counts(process).unanswered == 0
        client.mail()
        client.close()
        until(lambda: _logged(tmp_path) != [], "its record")
    for network, asked in found.items():
        assert len(asked) > _MANY / 2 - 2
        # The last one's answer may be on its way.
        for keepalive, answers in asked[:-1]:
            assert (keepalive.flags, keepalive.window > 0) == (0x10, True)
            assert answers
            assert all(one.ack == (keepalive.seq + 1) % (1 << 32) for one in answers)
            assert (keepalive.tsval is not None) == (timestamps == "1")
        _no_time_goes_back(ears[network].segments, _PEERS[network])
    assert [line["end_reason"] for line in _logged(tmp_path)] == ["client_quit"]
    assert {line["path"] for line in _logged(tmp_path)} == {"kernel"}


def _no_time_goes_back(segments: list[_Segment], peer: str) -> None:
    """Of what the peer hears: it would drop that without a word (PAWS, RFC 7323, 5.3)."""
    heard = [one.tsval for one in segments if one.source != peer and one.tsval is not None]
    assert all(later >= earlier for earlier, later in pairwise(heard))


@pytest.mark.parametrize("owes", [False, True])
@pytest.mark.parametrize("lost", ["c", "s"])
def test_a_peer_that_is_gone(tmp_path: Path, victim: Path, lost: str, owes: bool) -> None:
    """The session ends as one does whose socket finds that: the same is in the log, and the other
    peer is reset. So it does where the other peer has said something since, and says it again.
    """
    lines = {}
    for path in ("asks_relay", "asks"):
        directory = tmp_path / path
        directory.mkdir()
        lines[path] = _line_of_a_lost_peer(directory, victim, path, lost, owes)
    assert lines["asks"].pop("path") == "kernel"
    assert lines["asks_relay"].pop("path") in ("copy", "splice")
    differ = {
        *("id", "ts", "client", "client_port", "in_data"),
        *("wait_ms", "connect_ms", "greeting_ms", "duration_ms"),
    }
    relayed, flowed = (
        {key: value for key, value in line.items() if key not in differ} for line in lines.values()
    )
    assert flowed == relayed
    assert flowed["end_reason"] == {"c": "client_lost", "s": "server_lost"}[lost]
    # The relay begins to watch over a session when it has lasted for 5 seconds.
    assert 6000 <= lines["asks"]["duration_ms"] < lines["asks_relay"]["duration_ms"] + 5000


def _line_of_a_lost_peer(directory: Path, victim: Path, path: str, lost: str, owes: bool) -> Tree:
    reset, gone = threading.Event(), threading.Event()

    def serves(stream: Stream) -> None:
        stream.send(GREETING)
        stream.line()
        stream.send(b"250 fine\r\n")
        gone.wait(LIMIT)
        if owes and lost == "c":
            stream.send(b"250 more\r\n")
        try:
            stream.line()
        except ConnectionResetError:
            reset.set()

    with _networks() as networks, serving_there(networks, serves):
        with Victim(victim, networks, directory).runs("balancer", path) as process:
            client = _client(networks)
            with client:
                until(lambda: _counts(process).active == 1, "the session")
                before = len(descriptors(process.pid)) if path == "asks" else 0
                _vanish(networks, lost)
                gone.set()
                if owes and lost == "s":
                    client.send(b"NOOP\r\n")
                until(lambda: _logged(directory) != [], "its end", limit=2 * LIMIT)
                if lost == "s":
                    with pytest.raises(ConnectionResetError):
                        client.line()
                else:
                    assert reset.wait(LIMIT)
                until(lambda: _counts(process).active == 0, "nothing to be counted")
                if path == "asks":
                    until(lambda: _counts(process).unanswered == 1, "it to be counted")
                    assert len(descriptors(process.pid)) <= before
    (line,) = _logged(directory)
    return line


def _vanish(networks: Row, network: str) -> None:
    """Nothing comes from there any more, nor gets there."""
    chains = "".join(
        f"chain {hook} {{ type filter hook {hook} priority 0; meta l4proto tcp drop; }}\n"
        for hook in ("input", "output")
    )
    networks.run(network, "nft", f"table inet gone {{\n{chains}}}")


def test_connection_tracking_keeps_none(tmp_path: Path, victim: Path) -> None:
    """It takes each for a connection that begins, and the answer passes it by."""
    with _networks() as networks, serving_there(networks, polite):
        rule = "type filter hook input priority 0;\n ct state established accept"
        networks.run("l", "nft", f"table inet tracks {{\n chain x {{\n {rule}\n }}\n}}")
        with Victim(victim, networks, tmp_path).runs("balancer", "asks") as process:
            with _client(networks):
                until(lambda: _tracked(networks) == 0, "both legs to be forgotten")
                until(lambda: _counts(process).keepalives >= _MANY / 2, "keepalives")
                until(lambda: _tracked(networks) == 0, "these to be forgotten")


def _tracked(networks: Row) -> int:
    return int(networks.run("l", "cat", "/proc/sys/net/netfilter/nf_conntrack_count"))


def test_the_next_process_goes_on(tmp_path: Path, victim: Path) -> None:
    """Peers are asked by it, and the one that is gone is found by it."""
    with _networks() as networks, ExitStack() as exits:
        ears = {one: _Ear(networks, one) for one in "cs"}
        for ear in ears.values():
            exits.callback(ear.close)
        exits.enter_context(serving_there(networks, polite))
        with Victim(victim, networks, tmp_path).runs("balancer", "asks") as process:
            client = exits.enter_context(_client(networks))
            until(lambda: _counts(process).flows == 1, "the session to be a flow")
            process.kill()
        before = {one: len(ear.keepalives()) for one, ear in ears.items()}
        with Victim(victim, networks, tmp_path).runs("heir", "asks") as heir:
            for one, ear in ears.items():
                until(lambda ear=ear, one=one: len(ear.keepalives()) > before[one] + 1, "two of it")  # type: ignore[misc]
            client.expect("250", "NOOP")
            _vanish(networks, "s")
            with pytest.raises(ConnectionResetError):
                client.line()
            until(lambda: _counts(heir).unanswered == 1, "it to be counted")
            until(lambda: _logged(tmp_path) != [], "its record")
    assert [line["end_reason"] for line in _logged(tmp_path)] == ["server_lost"]


@pytest.mark.parametrize("habits", ["", "--no-timestamps", "--buffer 700", "--begin-at 4294967290"])
def test_a_foreign_stack_answers(
    tmp_path: Path, victim: Path, smtpload_binary: Path, habits: str
) -> None:
    """A client of its that waits for a server, and goes on afterwards as if nothing had been."""
    answers = threading.Event()

    def serves(stream: Stream) -> None:
        stream.send(GREETING)
        stream.line()
        answers.wait(2 * LIMIT)
        stream.send(b"250 fine\r\n")
        while line := stream.line():
            if line == b"DATA\r\n":
                stream.send(b"354 go\r\n")
                while stream.line() != b".\r\n":
                    pass
            stream.send(b"221 bye\r\n" if line == b"QUIT\r\n" else b"250 fine\r\n")
            if line == b"QUIT\r\n":
                return

    with _networks() as networks, serving_there(networks, serves):
        foreign = Foreign(smtpload_binary.with_name("foreign"), networks)
        with Victim(victim, networks, tmp_path).runs("balancer", "asks") as process:
            talks: list[str] = []

            def play() -> None:
                talks.extend(
                    talk.outcome
                    for talk in foreign.clients((LISTENER, PORT), habits, "--limit", "60")
                )

            thread = threading.Thread(target=play)
            thread.start()
            until(lambda: _counts(process).keepalives >= _MANY, "many keepalives", limit=2 * LIMIT)
            answers.set()
            thread.join()
            assert (talks, _counts(process).unanswered) == (["fine"], 0)
            until(lambda: _logged(tmp_path) != [], "its record")
    assert [line["end_reason"] for line in _logged(tmp_path)] == ["client_quit"]


def test_what_it_costs(tmp_path: Path, victim: Path, counted: Callable[[str], None]) -> None:
    """Idle flows that are asked so often as 60 times as many are otherwise."""

    def serves(stream: Stream) -> None:
        stream.socket.settimeout(None)
        stream.send(GREETING)
        stream.rest()

    with _networks() as networks, ExitStack() as exits:
        exits.enter_context(serving_there(networks, serves))
        process = exits.enter_context(Victim(victim, networks, tmp_path).runs("balancer", "asks"))

        def connect() -> list[Client]:
            return [Client((LISTENER, PORT)) for _ in range(_FLOWS)]

        for client in networks.inside("c", connect).result(LIMIT + _FLOWS / 50):
            exits.enter_context(client)
        until(lambda: _counts(process).flows == _FLOWS, "all to be flows")
        before, began = _counts(process), time.monotonic()
        spent = _spent_by_flows(process.pid)
        enough = before.keepalives + _ASKED * _FLOWS
        until(lambda: _counts(process).keepalives >= enough, "each to be asked", limit=2 * LIMIT)
        after, took = _counts(process), time.monotonic() - began
        spent = _spent_by_flows(process.pid) - spent
        asked = (after.keepalives - before.keepalives) / took
        counted(
            f"{_FLOWS} idle flows: {asked:.0f} keepalives a second,"
            f" {100 * spent / took:.1f} % of a processor, {1e6 * spent / took / asked:.1f} us each"
        )
        assert (after.flows, after.unanswered) == (_FLOWS, 0)


def _spent_by_flows(pid: int) -> float:
    """Seconds of a processor that the thread that has the flows has taken."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        if (thread / "comm").read_text() == "mailweir-flows\n":
            words = (thread / "stat").read_text().rpartition(")")[2].split()
            return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    raise AssertionError("no such thread")


def _logged(directory: Path) -> list[Tree]:
    log = directory / LOG
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
