"""A server that sends back what it gets, in the clear or behind TLS."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from harness.servers.scripted import Stream, serving

# Behind TLS it speaks first, as a mail server does.
GREETING = b"220 mx.server.test ESMTP\r\n"
_PIECE = 64 * 1024


@contextmanager
def echoing(tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The server in a thread; yields its address."""

    def handle(stream: Stream) -> None:
        if tls is None:
            _echo(stream.socket)
            return
        with tls.wrap_socket(stream.socket, server_side=True) as secured:
            secured.sendall(GREETING)
            _echo(secured)

    with serving(handle) as address:
        yield address


def _echo(stream: socket.socket) -> None:
    while piece := stream.recv(_PIECE):
        stream.sendall(piece)
