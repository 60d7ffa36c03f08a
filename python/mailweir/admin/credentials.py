"""Who is at the other end of the admin socket, as the kernel knows it (unix(7), SO_PEERCRED).

It is who connected, with the groups of that moment. Asked by `access` and `door`.
"""

import asyncio
import pwd
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mailweir.lanes import Lane

_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid
# linux: asm-generic/socket.h; the socket module hasn't got it. Sparc's and parisc's differ.
_SO_PEERGROUPS = 59
# The most that getsockopt of the socket module takes.
_MOST_BYTES = 1024
_GID = struct.Struct("I")
_PROC = Path("/proc")
# The process was begun by no login: it is a service, say.
_NO_LOGIN = 2**32 - 1

# Of names that are remembered; each is a user of this machine who asked.
_MOST_NAMES = 256
# Seconds for the name service; then a number has to do.
_PATIENCE = 0.3
# Look-ups at a time.
_WIDTH = 4


@dataclass(frozen=True, slots=True)
class Caller:
    """A user, by the numbers."""

    uid: int
    gids: frozenset[int]


def uid_at(sock: socket.socket) -> int:
    """The user at the other end."""
    return _credentials(sock)[1]


def caller_at(sock: socket.socket) -> Caller:
    """The user at the other end, with all groups, the first and the supplementary ones."""
    _, uid, gid = _credentials(sock)
    gids = b""
    # Who has more groups (256) is asked for by the first alone, or has to be named himself.
    with suppress(OSError):
        gids = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_BYTES)
    return Caller(uid, frozenset({gid, *(found for (found,) in _GID.iter_unpack(gids))}))


def login_at(sock: socket.socket) -> int | None:
    """Who had logged in where the process was begun that connected: sudo and su change the user,
    and not that (pam_loginuid(8)). None where the kernel doesn't know, or doesn't show it.

    By the process's number, which may be another one's by now: for who reads the log, not to decide
    by.
    """
    try:
        text = (_PROC / str(_credentials(sock)[0]) / "loginuid").read_text(encoding="ascii")
    except OSError:
        return None
    login = int(text)
    return None if login == _NO_LOGIN else login


def _credentials(sock: socket.socket) -> tuple[int, int, int]:
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(data)
    return pid, uid, gid


class Names:
    """Users' names, for the log and for messages. Nothing is decided by them.

    The name service may be slow: it is asked in a lane, once for each user however often
    that one comes. While as many look-ups hang as may, the others have numbers.
    """

    def __init__(self) -> None:
        self._lane = Lane("names", width=_WIDTH)
        self._lookups: dict[int, asyncio.Future[str]] = {}
        self._late: set[asyncio.Future[str]] = set()  # are waited for once

    async def of(self, uid: int) -> str:
        """The user's name, or `uid 1000` where that has none."""
        lookup = self._lookups.get(uid)
        if lookup is None:
            if len(self._lookups) >= _MOST_NAMES:
                self._late.discard(self._lookups.pop(next(iter(self._lookups))))
            lookup = asyncio.ensure_future(self._lane.call(partial(_name_of, uid)))
            self._lookups[uid] = lookup
        if lookup not in self._late:
            await asyncio.wait({lookup}, timeout=_PATIENCE)
        if lookup.done():
            self._late.discard(lookup)
            return lookup.result()
        self._late.add(lookup)
        return f"uid {uid}"

    def forget(self) -> None:
        """Ask anew from here on: users may have other names by now."""
        self._lookups.clear()
        self._late.clear()


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError, OverflowError):
        return f"uid {uid}"
