"""What every probe begins with, and how it reports. Called by the probes and by `check`."""

import asyncio
import os
import socket

from mailweir.config.address import Address
from mailweir.config.model import Proxy
from mailweir.health.probes import proxy


class ProbeError(Exception):
    """A probe failed at `step` (connect, greeting, ehlo); `detail` says how."""

    def __init__(self, step: str, detail: str) -> None:
        super().__init__(f"{step}: {detail}")
        self.step = step
        self.detail = detail


class Progress:
    """Where a probe is, so that a deadline can be blamed on a step.

    `passed` is set where the verdict is in already and only courtesies are left:
    then a deadline ends them and the check has succeeded.
    """

    def __init__(self) -> None:
        self.step = "connect"
        self.passed = False


async def connect(address: Address, kind: Proxy) -> socket.socket:
    """A connected, non-blocking socket, its PROXY header sent. Raises ProbeError.

    Dialled by hand, so that a refused connect and a missing greeting are told apart.
    """
    family = socket.AF_INET6 if address.ip.version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (str(address.ip), address.port))
        first = proxy.header(kind, sock.getsockname()[:2], sock.getpeername()[:2])
        if first:
            await loop.sock_sendall(sock, first)
    except OSError as error:
        sock.close()
        # Not strerror: uvloop and asyncio put their own words there.
        cause = os.strerror(error.errno) if error.errno else str(error)
        raise ProbeError("connect", cause) from None
    except asyncio.CancelledError:
        sock.close()
        raise
    return sock
