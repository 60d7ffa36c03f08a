"""Segments in a peer's name that its other peer doesn't take, on the kernel path: nothing comes of
them, whatever they say.
"""

import socket
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from harness.clients.dialogue import Address
from harness.clients.forged import ACK, FIN, PSH, forge, numbers
from harness.mailweir.kernel_rig import GREETING, PORT, Rig, polite, rig_before, rig_configuration
from harness.mailweir.run import Tree
from harness.networks.row import LISTENER, SERVER, SOURCE
from harness.scale import count
from harness.servers.scripted import Stream
from harness.waiting import LIMIT, until

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")

Counted = Callable[[str], None]

_DIVERTED = count(5, 20)
_SILENCE = 2.0  # seconds
_AHEAD = 60_000
_DAMAGE = 0x5555


def _configuration(directory: Path, **timeouts: str) -> Tree:
    config = rig_configuration(directory)
    config["listeners"]["mx"]["timeouts"] = {"i_accept_duplicates": True, **timeouts}
    return config


def _forge(
    rig: Rig, speaker: socket.socket, flags: int, payload: bytes, how: str, ahead: int = 0
) -> None:
    """A segment of a peer whose number is in the window, and which the other one doesn't take: by
    what it acknowledges, or by its checksum alone.
    """
    sender: Address = speaker.getsockname()
    hearer: Address = speaker.getpeername()
    said, heard = numbers(speaker)
    wrong = {"acknowledgement": (1, 0), "checksum": (heard, _DAMAGE)}[how]
    network = "s" if sender[0] == SERVER else "c"

    def send() -> None:
        forge(sender, hearer, flags, said + ahead, payload, ack=wrong[0], damage=wrong[1])

    before = _rewritten(rig)
    rig.networks.inside(network, send).result(LIMIT)
    until(lambda: _rewritten(rig) > before, "it to be passed on")


def _rewritten(rig: Rig) -> int:
    return int(rig.balancer.metric("mailweir_kernel_path_segments_total", what="rewritten"))


@pytest.mark.parametrize("how", ["acknowledgement", "checksum"])
def test_a_busy_upload_goes_on(tmp_path: Path, how: str) -> None:
    """Six bytes far ahead of it, in its name: no count moves, and no limit comes of that."""
    config = _configuration(tmp_path, idle_client=f"{_SILENCE:g}s", idle_server=f"{_SILENCE:g}s")
    line, lines = b"x" * 70 + b"\r\n", 0
    with rig_before(tmp_path, polite, config) as rig:
        with rig.client() as client:
            client.begin_mail()
            until(lambda: rig.flows() == 1, "the session to be a flow")
            _forge(rig, client.socket, PSH | ACK, b"QUIT\r\n", how, _AHEAD)
            begun = time.monotonic()

            def says_more() -> bool:
                nonlocal lines
                client.send(line)
                lines += 1
                return time.monotonic() > begun + 2 * _SILENCE

            until(says_more, "twice the limit to pass")
            # Not yet where the forged one was.
            assert lines * len(line) < _AHEAD
            client.expect("250", ".")
            client.expect("221", "QUIT")
            assert client.rest() == b""
        record = rig.record()
    said = ["EHLO client.test", "MAIL FROM:<sender@client.test>", "RCPT TO:<box@server.test>"]
    said += ["DATA", ".", "QUIT"]
    size = sum(len(command) + 2 for command in said) + lines * len(line)
    assert (record["end_reason"], record["received_bytes"]) == ("client_quit", size)


@pytest.mark.parametrize("how", ["acknowledgement", "checksum"])
def test_an_end_of_the_server_that_it_did_not_say(tmp_path: Path, how: str) -> None:
    """A client that waits for its answer gets it, for which it has longer than a half-closed one
    would.
    """
    streams: list[Stream] = []  # of those who ask
    asked, answers, over = threading.Event(), threading.Event(), threading.Event()

    def serves(stream: Stream) -> None:
        stream.send(GREETING)
        while line := stream.line():
            if line == b"NOOP\r\n":
                streams.append(stream)
                asked.set()
                answers.wait(LIMIT)
            stream.send(b"250 fine\r\n")
        over.wait(LIMIT)

    config = _configuration(tmp_path, half_closed="1s")
    with rig_before(tmp_path, serves, config) as rig, rig.client() as client:
        client.expect("220")
        until(lambda: rig.flows() == 1, "the session to be a flow")
        client.send(b"NOOP\r\n")
        assert asked.wait(LIMIT)
        _forge(rig, streams[0].socket, FIN | ACK, b"", how)
        # One that is half closed indeed is over, and so is the time that it had.
        with rig.client() as closes:
            closes.expect("220")
            closes.expect("250", "RSET")
            closes.socket.shutdown(socket.SHUT_WR)
            assert rig.record()["end_reason"] == "half_closed"
        over.set()
        answers.set()
        client.expect("250")
        client.expect("250", "RSET")
        client.close()
        assert rig.record(2)["end_reason"] == "client_closed"


def test_what_nobody_hears_keeps_no_flow(tmp_path: Path) -> None:
    """More and more bytes, and each time the checksum is wrong."""
    config = _configuration(tmp_path, idle_client=f"{_SILENCE:g}s", idle_server=f"{_SILENCE:g}s")
    with rig_before(tmp_path, polite, config) as rig:
        with rig.client() as client:
            client.expect("220")
            client.expect("250", "EHLO client.test")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            sender = client.socket.getsockname()
            said, heard = numbers(client.socket)

            def says_more() -> bool:
                nonlocal said
                one = partial(forge, sender, (LISTENER, PORT), PSH | ACK, said, b"x")
                send = partial(one, ack=heard, damage=_DAMAGE)
                rig.networks.inside("c", send).result(LIMIT)
                said += 1
                return bool(rig.balancer.session_log())

            until(says_more, "it to be over")
        record = rig.record()
    assert (record["path"], record["end_reason"]) == ("kernel", "idle_server")


# Without any right: connects from each port by another interface.
_DIVERT = textwrap.dedent(
    """
    import os, socket, sys

    source, server, port, *ports = sys.argv[1:]
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    for own in ports:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"away")
        one.setblocking(False)
        one.bind((source, int(own)))
        one.connect_ex((server, int(port)))
        one.close()
    """
)


def test_a_local_user_diverts_no_flow(tmp_path: Path, counted: Counted) -> None:
    """Its SYN has a flow's addresses and leaves elsewhere. It is dropped, and shows no way."""
    with rig_before(tmp_path, polite) as rig, ExitStack() as exits:
        pair = ["away", "type", "veth", "peer", "name", "nowhere"]
        rig.networks.run("l", "ip", "link", "add", *pair)
        rig.networks.run("l", "ip", "link", "set", "away", "arp", "off", "up")
        clients = [exits.enter_context(rig.client()) for _ in range(_DIVERTED)]
        for client in clients:
            client.expect("220")
            client.expect("250", "EHLO client.test")
        until(lambda: rig.flows() == _DIVERTED, "all to be flows")
        ports = [str(port) for _, port in rig.dialled_from()]
        divert = [sys.executable, "-c", _DIVERT, SOURCE, SERVER, str(PORT), *ports]
        rig.networks.run("l", *divert)
        dropped = partial(rig.balancer.metric, "mailweir_kernel_path_segments_total")
        until(lambda: dropped(what="guarded") >= _DIVERTED, "all of it to be dropped")
        for client in clients:
            client.expect("250", "NOOP")
            client.mail()
            client.close()
        until(lambda: len(rig.balancer.session_log()) == _DIVERTED, "all in the log")
        log = rig.balancer.session_log()
    counted(f"{_DIVERTED} flows, none diverted")
    assert {line["end_reason"] for line in log} == {"client_quit"}
