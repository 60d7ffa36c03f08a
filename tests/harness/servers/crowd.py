"""Servers and clients by the thousand. The servers are a process of their own, since each
connection is a descriptor.
"""

import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.clients.dialogue import Address
from harness.process import Running, running
from harness.servers import crowd_server


@contextmanager
def crowd(
    directory: Path,
    mode: str,
    size: int = 0,
    *,
    listen: Address = ("127.0.0.1", 0),
    before: Sequence[str] = (),
) -> Iterator[tuple[Running, str]]:
    """A server as `crowd_server` has them; yields its process and its address. `before` begins
    the command.
    """
    host, port = listen
    argv = [*before, sys.executable, crowd_server.__file__, mode, str(size), host, str(port)]
    with running(argv, directory, mode) as process:
        process.until(lambda: process.out.endswith("\n"), "the crowd's server to listen")
        yield process, f"{host}:{int(process.out)}"


def connect(address: Address, receive_buffer: int | None = None) -> socket.socket:
    """A client, without a word; its receive buffer is small if it is told so."""
    client = socket.socket()
    client.settimeout(60)
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.connect(address)
    return client
