"""Addresses for servers that die or never lived."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

# Servers are at this address of loopback, where no connection ever begins: the port of
# one that died can't be given to some client meanwhile, and nobody connects to itself.
SERVER_HOST = "127.0.0.2"


@contextmanager
def refusing() -> Iterator[str]:
    """An address that refuses connections, kept from others: bound, but not listening."""
    with socket.socket() as kept:
        kept.bind((SERVER_HOST, 0))
        yield f"{SERVER_HOST}:{kept.getsockname()[1]}"


def unused_port() -> int:
    """For programs that take no 0 for a port. Nobody else asks for one at SERVER_HOST."""
    with socket.socket() as free:
        free.bind((SERVER_HOST, 0))
        port: int = free.getsockname()[1]
        return port
