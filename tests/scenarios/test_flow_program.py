"""The kernel path's program between real stacks: sessions go on without sockets of the balancer's,
byte for byte, also where segments are lost.

The hand-over is made here by hand, step by step; the segments are the kernel's own (offloads and
all), between three networks.
"""

import hashlib
import os
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import pytest

from harness.flow_program import CLOSING, LIVE, FlowProgram, Side, attached, key
from harness.namespaces import LISTENER, SERVER, SOURCE, Row, row
from harness.scale import count
from harness.waiting import LIMIT, until

_SESSIONS = count(3, 30)
_PORT = 2525
_GREETING = b"220 mx.server.test\r\n"
# linux/tcp.h, what Python 3.11 has no names for.
_REPAIR, _REPAIR_QUEUE, _QUEUE_SEQ, _TIMESTAMP = 19, 20, 21, 24
_SAVE_SYN, _SAVED_SYN = 27, 28
_RECEIVE, _SEND = 1, 2
_NO_PROBE = -1
# Behind the last stamp that was used: the clock's lowest bit isn't to be had.
_LATER = 4

pytestmark = pytest.mark.needs("iproute2", "nftables", "bpftool", "clang", "mount")


@pytest.mark.parametrize(("size", "loss"), [(8 << 20, 0), (1 << 20, 1), (1 << 18, 5)])
def test_bytes_arrive_as_they_were_sent(
    size: int, loss: int, counted: Callable[[str], None]
) -> None:
    with row() as networks, attached(networks) as kernel, ExitStack() as exits:
        server = exits.enter_context(_listening(networks, "s", SERVER))
        listener = exits.enter_context(_listening(networks, "l", LISTENER))
        if loss:
            networks.lose(loss)
        for number in range(_SESSIONS):
            serving = networks.inside("s", partial(_echo, server))
            client = networks.inside("c", partial(_exchange, size))
            networks.inside("l", partial(_hand_over, listener, kernel, number)).result(LIMIT)
            assert client.result(LIMIT), "the same bytes came back"
            serving.result(LIMIT)
            until(partial(_is_over, kernel, number), "the flow's end to be seen")
        counted(
            f"{_SESSIONS} sessions of {size} bytes each way, {loss} % lost: byte-exact,"
            f" {kernel.rewritten()} segments rewritten"
        )


def _is_over(kernel: FlowProgram, number: int) -> bool:
    return kernel.state(number) == CLOSING


def _listening(networks: Row, network: str, address: str) -> socket.socket:
    def listen() -> socket.socket:
        found = socket.create_server((address, _PORT), backlog=100)
        found.setsockopt(socket.IPPROTO_TCP, _SAVE_SYN, 1)
        found.settimeout(LIMIT)
        return found

    return networks.inside(network, listen).result(LIMIT)


def _echo(listening: socket.socket) -> None:
    """A server that greets and says again whatever it hears."""
    with listening.accept()[0] as stream:
        stream.sendall(_GREETING)
        while piece := stream.recv(1 << 18):
            stream.sendall(piece)


def _exchange(size: int) -> bool:
    """A client that waits for the greeting, then says much and at last little."""
    with socket.create_connection((LISTENER, _PORT), LIMIT) as stream:
        assert stream.recv(100) == _GREETING
        said, heard = os.urandom(size), hashlib.sha256()
        sender = threading.Thread(target=stream.sendall, args=(said,))
        sender.start()
        left = size
        while left:
            piece = stream.recv(min(left, 1 << 18))
            assert piece, "an early end"
            heard.update(piece)
            left -= len(piece)
        sender.join()
        for _ in range(20):
            stream.sendall(b"NOOP\r\n")
            assert stream.recv(100) == b"NOOP\r\n"
        stream.shutdown(socket.SHUT_WR)
        assert stream.recv(1) == b""
    return heard.digest() == hashlib.sha256(said).digest()


def _hand_over(listening: socket.socket, kernel: FlowProgram, number: int) -> None:
    """What the balancer does: greets the client by its own socket, and is gone."""
    client, _ = listening.accept()
    server = socket.socket()
    server.settimeout(LIMIT)
    source = (SOURCE, 10_000 + number)
    server.bind(source)
    c, own, s = client.getpeername(), client.getsockname(), (SERVER, _PORT)
    kernel.install(number, (key(c, own), key(s, source)))
    server.connect(s)
    greeting = b""
    while not greeting.endswith(b"\n"):
        greeting += server.recv(100)
    until(lambda: kernel.clock(number, 1), "the server's clock to be seen")

    _repair(client, 1)
    _repair(server, 1)
    c_sent, c_heard = _numbers(client)
    s_sent, s_heard = _numbers(server)
    c_clock = client.getsockopt(socket.IPPROTO_TCP, _TIMESTAMP) + _LATER
    s_clock = server.getsockopt(socket.IPPROTO_TCP, _TIMESTAMP) + _LATER
    scales = _scales(client), _scales(server)
    _repair(client, _NO_PROBE)
    end = c_sent + len(greeting)
    to_server, to_client = s_sent - c_heard, end - s_heard
    c_ahead = s_clock - (kernel.clock(number, 0) or _clock_of_syn(client))
    s_ahead = c_clock - kernel.clock(number, 1)
    sides = (
        _side(key(source, s), 1, to_server, -to_client, c_ahead, -s_ahead, scales, c_heard),
        _side(key(own, c), 0, to_client, -to_server, s_ahead, -c_ahead, scales[::-1], s_heard),
    )
    kernel.update(number, LIVE, *sides, greeting_end=end, our_tsval=c_clock)
    client.sendall(greeting)
    server.close()  # in repair mode: without a word
    until(lambda: not kernel.greeting_is_due(number), "the greeting to be acknowledged")
    _repair(client, 1)
    client.close()


def _side(
    told: bytes,
    leg: int,
    seq_add: int,
    ack_add: int,
    tsval_add: int,
    tsecr_add: int,
    scales: tuple[tuple[int, int], tuple[int, int]],
    heard: int,
) -> Side:
    (peers, _), (_, ours) = scales
    left, right = max(peers - ours, 0), max(ours - peers, 0)
    return Side(
        told, leg, seq_add, ack_add, tsval_add, tsecr_add, left, right, peers, heard & 0xFFFFFFFF
    )


def _repair(stream: socket.socket, mode: int) -> None:
    stream.setsockopt(socket.IPPROTO_TCP, _REPAIR, mode)


def _numbers(stream: socket.socket) -> tuple[int, int]:
    """Behind what was sent, and behind what was heard."""
    found = []
    for queue in (_SEND, _RECEIVE):
        stream.setsockopt(socket.IPPROTO_TCP, _REPAIR_QUEUE, queue)
        found.append(stream.getsockopt(socket.IPPROTO_TCP, _QUEUE_SEQ) & 0xFFFFFFFF)
    return found[0], found[1]


def _scales(stream: socket.socket) -> tuple[int, int]:
    """The peer's window scale and ours: tcpi_snd_wscale and tcpi_rcv_wscale."""
    info = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return info[6] & 15, info[6] >> 4


def _clock_of_syn(stream: socket.socket) -> int:
    """The time stamp of a client that has said nothing since."""
    syn = stream.getsockopt(socket.IPPROTO_TCP, _SAVED_SYN, 200)
    tcp = syn[(syn[0] & 15) * 4 :]
    options = tcp[20 : (tcp[12] >> 4) * 4]
    return int(struct.unpack_from("!I", options, options.index(b"\x08\x0a") + 2)[0])
