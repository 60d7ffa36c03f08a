"""Streams that come back byte for byte: a server that says again what it hears, and its client."""

import hashlib
import os
import socket
import threading

from harness.clients.dialogue import Address
from harness.mailweir.kernel_rig import GREETING, PORT
from harness.networks.row import LISTENER
from harness.servers.scripted import Stream
from harness.waiting import LIMIT

_PIECE = 1 << 18


def echo(stream: Stream) -> None:
    """A server that greets and says again whatever it hears."""
    stream.send(GREETING)
    while piece := stream.socket.recv(_PIECE):
        stream.send(piece)


def exchange(size: int, address: Address = (LISTENER, PORT)) -> bool:
    """A client that waits for the greeting, then says much and at last little."""
    with socket.create_connection(address, LIMIT) as stream:
        assert stream.recv(100) == GREETING
        same = comes_back(stream, size)
        for _ in range(20):
            stream.sendall(b"NOOP\r\n")
            assert stream.recv(100) == b"NOOP\r\n"
        stream.shutdown(socket.SHUT_WR)
        assert stream.recv(1) == b""
    return same


def comes_back(stream: socket.socket, size: int) -> bool:
    """Whether so many bytes come back as they were said."""
    said, heard = os.urandom(size), hashlib.sha256()
    sender = threading.Thread(target=stream.sendall, args=(said,))
    sender.start()
    left = size
    while left:
        piece = stream.recv(min(left, _PIECE))
        assert piece, "an early end"
        heard.update(piece)
        left -= len(piece)
    sender.join()
    return heard.digest() == hashlib.sha256(said).digest()
