"""Where mails of checks arrive: a maildir that is looked through, or an address at which we listen.

Used by `message`. A mail of ours is known by its header; others are left where they are, and
refused where we listen.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from weakref import WeakSet

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, Envelope, Session

from mailweir.config.address import Address
from mailweir.config.check_keys import Arrives
from mailweir.errors import StalledError
from mailweir.foreign import shown
from mailweir.health.probes.dial import Learned, LocalError, Progress
from mailweir.health.probes.files import LIMIT, files
from mailweir.plainfile import open_plain, reason

HEADER = "X-Mailweir-Check"
_BEGIN = f"\n{HEADER}: ".encode("ascii")
_TOKEN_DIGITS = 32
_LOOK = 0.5  # seconds between looks into a maildir
_MOST_OF_A_MAIL = 16 << 10  # bytes that are read; trace headers come before ours
_MOST_MAILS = 1000  # that are looked at each time
_OLD = 3600.0  # seconds; no check waits for its mail any longer
# What comes where we listen.
_MOST_SESSIONS = 64
_MOST_DATA = 64 << 10
_SILENCE = 60.0  # seconds

Arrived = Callable[[], Awaitable[None]]


@asynccontextmanager
async def awaited(
    arrives: Arrives | None, token: str, progress: Progress
) -> AsyncIterator[Arrived]:
    """Before the mail with `token` is sent; what is yielded waits until it is there.

    Raises LocalError where nothing could arrive.
    """
    if arrives is None:
        yield _at_once
    elif arrives.maildir:
        known = (await _look(arrives.maildir, frozenset(), token)).names
        yield partial(_found_in, arrives.maildir, known, token, progress)
    else:
        if (place := _place(arrives)) is None:
            raise LocalError("`arrives` says nowhere")
        sink = await SINKS.at(place)
        arrived = sink[token] = asyncio.get_running_loop().create_future()
        try:
            yield lambda: arrived
        finally:
            del sink[token]


async def _at_once() -> None:
    return


# --- a maildir ---------------------------------------------------------------


class _Look(NamedTuple):
    """What a look into a maildir found."""

    names: frozenset[str]  # that are there by now
    arrived: bool
    unseen: str  # why the mail may be there all the same; empty where nothing was hidden
    left: str  # why a mail of ours is still there; empty where none is


async def _found_in(folder: Path, known: frozenset[str], token: str, progress: Progress) -> None:
    unread = ""
    while True:
        look = await _look(folder, known, token)
        if look.arrived:
            if look.left:
                progress.learned = Learned(alarm=look.left)
            return
        known = look.names
        # That there is no folder may change; a mail that can't be read isn't looked at again.
        unread = unread or (look.unseen if known else "")
        progress.lacking = unread or look.unseen
        await asyncio.sleep(_LOOK)


async def _look(folder: Path, known: frozenset[str], token: str) -> _Look:
    """Raises LocalError."""
    try:
        look = partial(_look_into, folder / "new", known, token.encode("ascii"))
        return await files.call(look, limit=LIMIT, what=f"maildir {folder}")
    except StalledError as error:
        raise LocalError(str(error)) from None
    except OSError as error:
        raise LocalError(f"maildir {folder}: {reason(error)}") from None


def _look_into(folder: Path, known: frozenset[str], token: bytes) -> _Look:
    """In the lane. Our mail is removed, and those of checks that nobody waits for any more; others
    may be waited for at this moment, by the check of another server.
    """
    try:
        names = frozenset(os.listdir(folder))
    except FileNotFoundError:
        # Servers make it for the first mail.
        why = f"there is no folder {folder}: no mail has come yet, or `arrives` is wrong"
        return _Look(frozenset(), False, why, "")
    arrived, unseen, left = False, "", ""
    for name in sorted(names - known)[:_MOST_MAILS]:
        path = folder / name
        try:
            with open(open_plain(path, os.O_RDONLY), "rb") as stream:
                found = token_of(stream.read(_MOST_OF_A_MAIL))
                age = time.time() - os.fstat(stream.fileno()).st_mtime
        except FileNotFoundError:
            continue
        except OSError as error:
            unseen = f"mail {shown(str(path))} can't be read: {reason(error)}"
            continue
        arrived = arrived or found == token
        if found == token or (found and age > _OLD):
            left = _removed(path) or left
    return _Look(names, arrived, unseen, left)


def _removed(path: Path) -> str:
    """Why it isn't; empty where it is."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return f"mail {shown(str(path))} can't be removed: {reason(error)}"
    return ""


def token_of(mail: bytes) -> bytes:
    """Of a mail of ours, whichever check's; empty of others."""
    head = mail.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    at = head.find(_BEGIN)
    token = head[at + len(_BEGIN) :][:_TOKEN_DIGITS] if at >= 0 else b""
    return token if len(token) == _TOKEN_DIGITS and token.isalnum() else b""


# --- an address of ours ------------------------------------------------------

# What is waited for, by token.
_Waiting = dict[str, asyncio.Future[None]]
_Place = tuple[type[SMTP], Address]


def _place(arrives: Arrives) -> _Place | None:
    """Where we listen, and what is spoken there. None for a maildir."""
    if arrives.smtp:
        return SMTP, arrives.smtp
    return (LMTP, arrives.lmtp) if arrives.lmtp else None


class Sinks:
    """Where we listen for mails: from the first check that waits for some until no check would, so
    that one that is late isn't tried again by the server.
    """

    def __init__(self) -> None:
        self._open: dict[_Place, tuple[asyncio.Server, _Waiting]] = {}
        self._opening = asyncio.Lock()

    async def at(self, place: _Place) -> _Waiting:
        """Who waits for mails there. Raises LocalError where it can't be listened at."""
        async with self._opening:
            if (known := self._open.get(place)) is None:
                waiting: _Waiting = {}
                known = self._open[place] = await _listen(*place, waiting), waiting
        return known[1]

    def keep(self, wanted: Iterable[Arrives]) -> None:
        """Leave the addresses that no check names any more: they may be for something else now."""
        places = {place for one in wanted if (place := _place(one))}
        for place in self._open.keys() - places:
            self._open.pop(place)[0].close()


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
