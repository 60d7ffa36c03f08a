"""What every check begins with, and how probes report. Called by the probes and by `check`."""

import asyncio
import errno
import os
import socket

from mailweir.config.address import Address
from mailweir.config.units import format_duration
from mailweir.config.words import Proxy
from mailweir.health.probes import proxy

# What a connect fails with where this machine has no port, buffer or memory left.
_OURS = {errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}


class ProbeError(Exception):
    """A probe failed at `step` (connect, greeting, ehlo); `detail` says how."""

    def __init__(self, step: str, detail: str) -> None:
        super().__init__(f"{step}: {detail}")
        self.step = step
        self.detail = detail


class LocalError(Exception):
    """A probe could not be made, for want of something of our own: it says nothing of the
    server. `str` of it says what was wanting.
    """


class Progress:
    """Where a probe is, so that a deadline can be blamed on a step.

    `passed` is set where the verdict is in already and only courtesies are left:
    then a deadline ends them and the check has succeeded.
    """

    def __init__(self) -> None:
        self.step = "connect"
        self.passed = False


async def connect(address: Address, kind: Proxy, limit: float) -> socket.socket:
    """A connected, non-blocking socket, its PROXY header sent. Raises ProbeError, also where the
    server hasn't accepted within `limit` seconds.

    Raises LocalError where it can't be tried. Dialled by hand, so that a refused connect and
    a missing greeting are told apart.
    """
    family = socket.AF_INET6 if address.ip.version == 6 else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise LocalError(_cause(error)) from None
    sock.setblocking(False)
    try:
        await _accepted(sock, address, limit)
        first = proxy.header(kind, sock.getsockname()[:2], sock.getpeername()[:2])
        if first:
            await asyncio.get_running_loop().sock_sendall(sock, first)
    except OSError as error:
        sock.close()
        if error.errno in _OURS:
            raise LocalError(_cause(error)) from None
        raise ProbeError("connect", _cause(error)) from None
    except (asyncio.CancelledError, ProbeError):
        sock.close()
        raise
    return sock


async def _accepted(sock: socket.socket, address: Address, limit: float) -> None:
    """Until the server accepts. A loop that is late, since it has much to do, mustn't be taken for
    a server that is: the kernel knows.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limit):
            await loop.sock_connect(sock, (str(address.ip), address.port))
    except TimeoutError as error:
        if error.errno is not None:  # the kernel's own time-out
            raise
        if not _is_connected(sock):
            raise ProbeError("connect", f"no answer within {format_duration(limit)}") from None


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _cause(error: OSError) -> str:
    # Not strerror: uvloop and asyncio put their own words there.
    return os.strerror(error.errno) if error.errno else str(error)
