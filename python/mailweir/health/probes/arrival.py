"""Where mails of checks arrive: a maildir that is looked through, or an address at which we listen.

Used by `message`. A mail of ours is known by its header; others are left where they are, and
refused where we listen.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from weakref import WeakSet

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, Envelope, Session

from mailweir.config.address import Address
from mailweir.config.check_keys import Arrives
from mailweir.errors import StalledError
from mailweir.health.probes.dial import LocalError
from mailweir.health.probes.files import LIMIT, files
from mailweir.plainfile import open_plain, reason

HEADER = "X-Mailweir-Check"
_BEGIN = f"\n{HEADER}: ".encode("ascii")
_TOKEN_DIGITS = 32
_LOOK = 0.5  # seconds between looks into a maildir
_MOST_OF_A_MAIL = 16 << 10  # bytes that are read; trace headers come before ours
_MOST_MAILS = 1000  # that are looked at each time
# What comes where we listen.
_MOST_SESSIONS = 64
_MOST_DATA = 64 << 10
_SILENCE = 60.0  # seconds

Arrived = Callable[[], Awaitable[None]]


@asynccontextmanager
async def awaited(arrives: Arrives | None, token: str) -> AsyncIterator[Arrived]:
    """Before the mail with `token` is sent; what is yielded waits until it is there.

    Raises LocalError where nothing could arrive.
    """
    if arrives is None:
        yield _at_once
    elif arrives.maildir:
        known = await _look(arrives.maildir, frozenset(), token)
        yield partial(_found_in, arrives.maildir, known, token)
    else:
        kind, address = (SMTP, arrives.smtp) if arrives.smtp else (LMTP, arrives.lmtp)
        if address is None:
            raise LocalError("`arrives` says nowhere")
        sink = await SINKS.at(kind, address)
        arrived = sink[token] = asyncio.get_running_loop().create_future()
        try:
            yield lambda: arrived
        finally:
            del sink[token]


async def _at_once() -> None:
    return


# --- a maildir ---------------------------------------------------------------


class _Arrived(Exception):  # noqa: N818 - it is what is waited for
    """The mail is there."""


async def _found_in(folder: Path, known: frozenset[str], token: str) -> None:
    while True:
        try:
            known = await _look(folder, known, token)
        except _Arrived:
            return
        await asyncio.sleep(_LOOK)


async def _look(folder: Path, known: frozenset[str], token: str) -> frozenset[str]:
    """The names that are there by now. Raises _Arrived, and LocalError."""
    try:
        look = partial(_look_into, folder / "new", known, token.encode("ascii"))
        return await files.call(look, limit=LIMIT, what=f"maildir {folder}")
    except StalledError as error:
        raise LocalError(str(error)) from None
    except OSError as error:
        raise LocalError(f"maildir {folder}: {reason(error)}") from None


def _look_into(folder: Path, known: frozenset[str], token: bytes) -> frozenset[str]:
    """In the lane. Mails of checks are removed, also those that are late."""
    try:
        names = frozenset(os.listdir(folder))
    except FileNotFoundError:
        return frozenset()  # servers make it for the first mail
    arrived = False
    for name in sorted(names - known)[:_MOST_MAILS]:
        path = folder / name
        with suppress(OSError):
            with open(open_plain(path, os.O_RDONLY), "rb") as stream:
                found = token_of(stream.read(_MOST_OF_A_MAIL))
            if found:
                path.unlink()
            arrived = arrived or found == token
    if arrived:
        raise _Arrived
    return names


def token_of(mail: bytes) -> bytes:
    """Of a mail of ours, whichever check's; empty of others."""
    head = mail.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    at = head.find(_BEGIN)
    token = head[at + len(_BEGIN) :][:_TOKEN_DIGITS] if at >= 0 else b""
    return token if len(token) == _TOKEN_DIGITS and token.isalnum() else b""


# --- an address of ours ------------------------------------------------------

# What is waited for, by token.
_Waiting = dict[str, asyncio.Future[None]]


class Sinks:
    """Where we listen for mails: from the first check that waits for some until the process ends,
    so that one that is late isn't tried again by the server.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[type[SMTP], Address], tuple[asyncio.Server, _Waiting]] = {}
        self._opening = asyncio.Lock()

    async def at(self, kind: type[SMTP], address: Address) -> _Waiting:
        """Who waits for mails there. Raises LocalError where it can't be listened at."""
        async with self._opening:
            if (kind, address) not in self._open:
                waiting: _Waiting = {}
                self._open[kind, address] = (await _listen(kind, address, waiting), waiting)
        return self._open[kind, address][1]

    def close(self) -> None:
        """All of them."""
        for server, _ in self._open.values():
            server.close()
        self._open.clear()


SINKS = Sinks()


async def _listen(kind: type[SMTP], address: Address, waiting: _Waiting) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    handler = _Handler(waiting)

    sessions: WeakSet[SMTP] = WeakSet()

    def session() -> asyncio.Protocol:
        if sum(one.transport is not None for one in sessions) >= _MOST_SESSIONS:
            return _Full()
        made = kind(
            handler, data_size_limit=_MOST_DATA, hostname="mailweir", timeout=_SILENCE, loop=loop
        )
        sessions.add(made)
        return made

    try:
        return await loop.create_server(session, str(address.ip), address.port)
    except OSError as error:
        raise LocalError(f"arrives at {address}: {os.strerror(error.errno or 0)}") from None


class _Full(asyncio.Protocol):
    """For who comes when there are enough: descriptors are for clients."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """At once."""
        if isinstance(transport, asyncio.Transport):
            transport.abort()


class _Handler:
    """What aiosmtpd calls for each mail."""

    def __init__(self, waiting: _Waiting) -> None:
        self._waiting = waiting

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name for it
        self, _: SMTP, __: Session, envelope: Envelope
    ) -> str:
        content = envelope.content or b""
        token = token_of(content if isinstance(content, bytes) else content.encode())
        if not token:
            return "550 5.7.1 Nothing is taken here but mails of mailweir's checks"
        arrived = self._waiting.get(token.decode("ascii"))
        if arrived and not arrived.done():
            arrived.set_result(None)
        return "250 2.0.0 Arrived"
