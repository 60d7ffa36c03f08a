"""A name server that knows nothing, and remembers what it was asked."""

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# RFC 1035, 4.1.1: a response that is authoritative; and "no such name".
_ANSWER, _NO_SUCH_NAME = 0x8400, 3
_SOA, _IN = 6, 1
# The name of the root, which has no labels.
_ROOT = b"\0"
# The question's name once more (RFC 1035, 4.1.4): each is a zone of its own.
_SAME = b"\xc0\x0c"


@dataclass
class Names:
    """What it was asked, in order: names without their last dot."""

    asked: list[str] = field(default_factory=list)


class _Server(socketserver.UDPServer):
    names: Names
    ttl: int


class _Query(socketserver.BaseRequestHandler):
    server: _Server
    request: tuple[bytes, socket.socket]

    def handle(self) -> None:
        query, sock = self.request
        ttl = self.server.ttl
        end = query.index(_ROOT, 12) + 5  # behind the question's name, type and class
        self.server.names.asked.append(_name(query[12:end]))
        head = query[:2] + struct.pack("!HHHHH", _ANSWER | _NO_SUCH_NAME, 1, 0, 1, 0)
        # Serial, refresh, retry, expire, and how long "no such name" holds (RFC 2308, 4).
        about = _SAME + _SAME + struct.pack("!IIIII", 1, ttl, ttl, ttl, ttl)
        soa = _SAME + struct.pack("!HHIH", _SOA, _IN, ttl, len(about)) + about
        sock.sendto(head + query[12:end] + soa, self.client_address)


@contextmanager
def name_server(address: tuple[str, int], ttl: int) -> Iterator[Names]:
    """Answers at a UDP address that there is no such name; that holds for `ttl` seconds."""
    with _Server(address, _Query) as server:
        server.names, server.ttl = Names(), ttl
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.names
        finally:
            server.shutdown()
            thread.join()


def _name(question: bytes) -> str:
    labels, at = [], 0
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    return ".".join(labels)
