"""What every check begins with, and how probes report. Called by the probes and by `check`."""

import asyncio
import errno
import os
import socket
from dataclasses import dataclass

from mailweir.config.address import Address
from mailweir.config.units import format_duration
from mailweir.config.words import Proxy
from mailweir.health.probes import proxy
from mailweir.health.target import Target
from mailweir.state.desired import Health

# linux/in.h; Python has no name for it before 3.12.
_BIND_ADDRESS_NO_PORT = 24
# What a connect fails with where this machine has no port, buffer, memory or descriptor left.
OURS = {errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE}


class ProbeError(Exception):
    """A probe failed at `step` (connect, greeting, ehlo); `detail` says how, `verdict` what comes
    of it: DOWN, or DRAIN.
    """

    def __init__(self, step: str, detail: str, verdict: Health = Health.DOWN) -> None:
        super().__init__(f"{step}: {detail}")
        self.step = step
        self.detail = detail
        self.verdict = verdict


class LocalError(Exception):
    """A probe could not be made, for want of something of our own: it says nothing of the
    server. `str` of it says what was wanting.
    """


@dataclass(frozen=True, slots=True)
class Learned:
    """What a probe found out beside its verdict."""

    alarm: str = ""  # what is about to go wrong; empty where nothing is
    certificate_end: float | None = None  # seconds since 1970
    agent: str = ""  # what an agent said, made fit to be shown


NOTHING_LEARNED = Learned()


class Progress:
    """Where a probe is, so that a deadline can be blamed on a step.

    `passed` is set where the verdict is in already and only courtesies are left, `failed`
    where that is a failure: then a deadline ends them and changes nothing.
    """

    def __init__(self) -> None:
        self.step = "connect"
        self.passed = False
        self.awaits_more = False  # something is to come behind the session
        self.failed: ProbeError | None = None
        self.learned = NOTHING_LEARNED
        self.conclusive = True  # whether it says something of the server that it isn't in time
        self.awaited = "answer"
        self.lacking = ""  # something of ours, for want of which it may not have been in time


async def connect(target: Target) -> socket.socket:
    """A connected, non-blocking socket, its PROXY header sent. Raises ProbeError, also where the
    server hasn't accepted within `target.connect` seconds.

    Raises LocalError where it can't be tried. Dialled by hand, so that a refused connect and
    a missing greeting are told apart.
    """
    address = target.address
    family = socket.AF_INET6 if address.ip.version == 6 else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise LocalError(_cause(error)) from None
    sock.setblocking(False)
    try:
        _bind(sock, target)
        await _accepted(sock, address, target.connect)
        if target.proxy is not Proxy.OFF:
            first = proxy.header(target.proxy, sock.getsockname()[:2], sock.getpeername()[:2])
            await asyncio.get_running_loop().sock_sendall(sock, first)
    except OSError as error:
        sock.close()
        if error.errno in OURS:
            raise LocalError(_cause(error)) from None
        raise ProbeError("connect", _cause(error)) from None
    except (asyncio.CancelledError, ProbeError, LocalError):
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, target: Target) -> None:
    """Raises OSError where the address isn't this machine's."""
    if target.source is None:
        return
    # The kernel chooses the port when it knows the server: there are enough for each.
    sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
    try:
        sock.bind((str(target.source), 0))
    except OSError as error:
        raise LocalError(f"from {target.source}: {_cause(error)}") from None


async def _accepted(sock: socket.socket, address: Address, limit: float) -> None:
    """Until the server accepts. A loop that is late, since it has much to do, mustn't be taken for
    a server that is: the kernel knows.
    """
    if (error := sock.connect_ex((str(address.ip), address.port))) == errno.EINPROGRESS:
        await _settled(sock, limit)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not error and not _is_connected(sock):
            raise ProbeError("connect", f"no answer within {format_duration(limit)}")
    if error:
        raise OSError(error, os.strerror(error))


async def _settled(sock: socket.socket, limit: float) -> None:
    """Until the kernel knows, or so many seconds are over. By hand: a check for each server of a
    large farm makes what asyncio does beside that much.
    """
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def settle() -> None:
        if not waiter.done():
            waiter.set_result(None)

    loop.add_writer(sock, settle)
    timer = loop.call_later(limit, settle)
    try:
        await waiter
    finally:
        timer.cancel()
        loop.remove_writer(sock)


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _cause(error: OSError) -> str:
    # Not strerror: uvloop and asyncio put their own words there.
    return os.strerror(error.errno) if error.errno else str(error)
