"""A server that sends back what it gets, in the clear or behind TLS."""

import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from harness.networks.ports import SERVER_HOST
from harness.waiting import LIMIT

# Behind TLS it speaks first, as a mail server does.
GREETING = b"220 mx.server.test ESMTP\r\n"
_PIECE = 64 * 1024


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 100
    tls: ssl.SSLContext | None = None


class _Echo(socketserver.BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        self.request.settimeout(LIMIT)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Checks connect and go away again, in the middle of the handshake.
        with suppress(OSError):
            if self.server.tls is None:
                self._echo(self.request)
                return
            with self.server.tls.wrap_socket(self.request, server_side=True) as stream:
                stream.sendall(GREETING)
                self._echo(stream)

    def _echo(self, stream: socket.socket) -> None:
        while piece := stream.recv(_PIECE):
            stream.sendall(piece)


@contextmanager
def echoing(tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The server in a thread; yields its address."""
    with _Server((SERVER_HOST, 0), _Echo) as server:
        server.tls = tls
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield "{}:{}".format(*server.server_address)
        finally:
            server.shutdown()
            thread.join()
