"""A network of a test's own: loopback alone, where any address can be a client's.

Needs root.
"""

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Network
from pathlib import Path

from harness.clients.dialogue import Address, Client
from harness.needs import missing, program
from harness.process import run
from harness.waiting import LIMIT

# Documentation addresses (RFC 3849). Those of IPv4 are loopback's own 127.0.0.0/8.
CLIENTS6 = IPv6Network("2001:db8:25::/64")
_CLONE_NEWNET = 0x40000000
# Not in the socket module of Python 3.11.
_IPV6_FREEBIND = 78
_BIND_ADDRESS_NO_PORT = 24

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def own_network() -> Iterator[None]:
    """This thread, and what it starts meanwhile, is in a network that nobody else sees."""
    with Path("/proc/thread-self/ns/net").open() as before:
        if _libc.unshare(_CLONE_NEWNET):
            missing(f"needs a network of its own: {os.strerror(ctypes.get_errno())}")
        try:
            _ip("link", "set", "lo", "up")
            _ip("-6", "route", "add", "local", str(CLIENTS6), "dev", "lo")
            yield
        finally:
            if _libc.setns(before.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "can't return to the network of before")


class ClientFrom(Client):
    """A client with an address of loopback's network, or of CLIENTS6."""

    def __init__(self, source: str, address: Address) -> None:
        self.socket = _connect(source, address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self.socket.makefile("rb")


def _connect(source: str, address: Address) -> socket.socket:
    version = socket.AF_INET6 if ":" in source else socket.AF_INET
    connection = socket.socket(version)
    connection.settimeout(LIMIT)
    if version == socket.AF_INET6:
        # Of the whole network no address is an interface's.
        connection.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    # A port that is chosen here is nobody else's; chosen at the connect, it is another one for
    # each address.
    connection.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
    try:
        connection.bind((source, 0))
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def _ip(*arguments: str) -> None:
    done = run([program("ip"), *arguments])
    assert done.returncode == 0, done.stderr
