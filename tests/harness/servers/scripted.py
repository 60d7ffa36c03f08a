"""Servers that do what a test says, byte for byte: one thread for each connection."""

import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from harness.networks.named import NamedNetworks
from harness.networks.ports import SERVER_HOST
from harness.waiting import LIMIT, Value

# Sent by close: a reset, and nothing that is still to be sent.
_RESET = struct.pack("ii", 1, 0)


class Stream:
    """One end of a connection, which counts the bytes that it sends and is sent."""

    def __init__(self, connection: socket.socket, limit: float = LIMIT) -> None:
        self.socket = connection
        self.socket.settimeout(limit)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent = 0
        self.received = 0
        self._pending = b""

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)
        self.sent += len(data)

    def line(self) -> bytes:
        """The next line with its end; what there is of it at the end of the stream."""
        while b"\n" not in self._pending:
            piece = self.socket.recv(64 * 1024)
            if not piece:
                break
            self.received += len(piece)
            self._pending += piece
        line, end, self._pending = self._pending.partition(b"\n")
        return line + end

    def exactly(self, size: int) -> bytes:
        """So many bytes; fewer at the end of the stream."""
        while len(self._pending) < size:
            piece = self.socket.recv(64 * 1024)
            if not piece:
                break
            self.received += len(piece)
            self._pending += piece
        taken, self._pending = self._pending[:size], self._pending[size:]
        return taken

    def rest(self) -> bytes:
        """Everything up to the end of the stream."""
        lines = list(iter(self.line, b""))
        return b"".join(lines)

    def end(self) -> None:
        """Send an end of stream; the other direction goes on."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close by a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.socket.close()


Handle = Callable[[Stream], None]


class _Server(socketserver.ThreadingTCPServer):
    # A test that failed doesn't wait for the other end's time-out.
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024
    # One that comes back, say, where connections of the first are about to be forgotten.
    allow_reuse_address = True
    handle: Handle


class _Connection(socketserver.BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        # Clients and checks go away as they like.
        with suppress(OSError):
            self.server.handle(Stream(self.request))


def _here(make: Callable[[], Value]) -> Value:
    return make()


@contextmanager
def serving(
    handle: Handle,
    address: tuple[str, int] = (SERVER_HOST, 0),
    bind: Callable[[Callable[[], _Server]], _Server] = _here,
) -> Iterator[str]:
    """A server that calls `handle` for each connection and closes it then; its address.

    `bind` makes it where it is to be: in another network, say.
    """
    with bind(lambda: _Server(address, _Connection)) as server:
        server.handle = handle
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield "{}:{}".format(*server.server_address)
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def serving_in(
    networks: NamedNetworks, network: str, address: tuple[str, int], handle: Handle
) -> Iterator[None]:
    """The same in another network."""

    def bind(make: Callable[[], _Server]) -> _Server:
        return networks.inside(network, make).result(LIMIT)

    with serving(handle, address, bind):
        yield
