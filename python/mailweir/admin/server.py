"""Binds an admin socket and a read-only HTTP address: of `mailweir run`, and of `mailweir ha`.
Started and closed by these processes, which say what is answered there.
"""

import asyncio
import logging
import os
import socket
import stat
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from pathlib import Path
from typing import cast

import structlog
from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.typedefs import Middleware
from prometheus_client import CollectorRegistry

from mailweir.admin.access import CLOSED, Access
from mailweir.admin.door import Door
from mailweir.admin.guard import Hosts, at_socket, on_tcp
from mailweir.admin.peer import uid_at
from mailweir.admin.refusals import Refusals
from mailweir.config.address import Address
from mailweir.config.roles import Role, Roles
from mailweir.errors import StartError
from mailweir.late_addresses import may_come_later

# In seconds. For answers under way when the process ends, or their asker's role does.
_CLOSE_TIMEOUT = 1.0
# For a request's head to come, from the connect or the last answer on.
_HEAD_TIMEOUT = 15.0
# For what is left of a body that nobody reads.
_BODY_TIMEOUT = 1.0
# For a connection on TCP: longer than any scrape, and Prometheus connects anew.
_TCP_LIFETIME = 60.0

_log = structlog.get_logger("mailweir")


# What is answered at the socket, where `Access` says who asks, and what on TCP.
Answers = tuple[
    Callable[[Access, Middleware], web.Application], Callable[[Middleware], web.Application]
]


class AdminServer:
    """The two sites while they are open."""

    def __init__(
        self, path: Path, http: Address | None, roles: Roles, hosts: Hosts, *, part: str
    ) -> None:
        """`part` is the key of the configuration that has `socket` and `http`."""
        self._path = path
        self._http = http
        self._part = part
        self._access = Access(roles)
        self._hosts = hosts
        # Made in `open`.
        self._runners: list[web.AppRunner] = []
        self._listening: list[asyncio.Server] = []
        self._refusals: Refusals
        self._door: Door

    async def open(self, answers: Answers, registry: CollectorRegistry) -> None:
        """Bind and answer. Raises StartError with what to do."""
        read_write, read_only = answers
        self._refusals = refusals = Refusals(registry)
        guard = at_socket(self._access, refusals, self._hosts)
        sock = bind_unix(self._path, self._access.mode, part=self._part)
        app = read_write(self._access, guard)
        # Root and we ourselves get in however many others there are.
        always: frozenset[Hashable] = frozenset({0, os.geteuid()})
        door = partial(Door, peer_of=_user, name=f"{self._part}.socket", always=always)
        self._door = await self._serve(app, sock, door)
        if self._http is not None:
            app = read_only(on_tcp(refusals, self._hosts, name=f"{self._part}.http"))
            door = partial(
                Door, peer_of=_address, name=f"{self._part}.http", lifetime=_TCP_LIFETIME
            )
            await self._serve(app, self._bind_tcp(self._http), door)

    def _bind_tcp(self, http: Address) -> socket.socket:
        """Also where the address comes later: after a power cut everything begins at once."""
        family = socket.AF_INET6 if http.ip.version == 6 else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            may_come_later(made)
            made.bind((str(http.ip), http.port))
            made.listen()
            return made
        except OSError as error:
            made.close()
            raise StartError(
                f"{self._part}.http: {http} can't be bound: {error.strerror}"
                " (choose another address, or `http: off`)"
            ) from None

    def take(self, roles: Roles, hosts: Iterable[str]) -> None:
        """Let these roles and names count, for those who are connected too. Called at a reload."""
        self._hosts.take(hosts)
        try:
            self._access.take(roles, self._path)
        except OSError as error:
            _log.error(
                "the admin socket's permissions can't be changed; restart mailweir",
                socket=str(self._path),
                reason=error.strerror,
            )
        self._refusals.forget()
        # Not at once: who asked for the reload is to hear how it went.
        self._door.put_out(self._has_role, after=_CLOSE_TIMEOUT)

    def _has_role(self, transport: asyncio.Transport) -> bool:
        return self._access.role_at(transport.get_extra_info("socket")) is not Role.NONE

    async def close(self) -> None:
        """Stop answering and take the socket away."""
        for listening in self._listening:
            listening.close()
        self._listening.clear()
        for runner in self._runners:
            await runner.cleanup()
        if self._runners:
            self._path.unlink(missing_ok=True)
        self._runners.clear()

    async def _serve(
        self,
        app: web.Application,
        sock: socket.socket,
        door: Callable[[web.Server, Refusals], Door],
    ) -> Door:
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=_QUIET,
            shutdown_timeout=_CLOSE_TIMEOUT,
            keepalive_timeout=_HEAD_TIMEOUT,
            lingering_time=_BODY_TIMEOUT,
            # A body's bytes aren't looked at, so they needn't be unpacked either.
            auto_decompress=False,
            # Who has left waits for no answer: it would go on being made all the same.
            handler_cancellation=True,
        )
        self._runners.append(runner)
        await runner.setup()
        made = door(cast(web.Server, runner.server), self._refusals)
        self._listening.append(await asyncio.get_running_loop().create_server(made, sock=sock))
        return made


def _user(transport: asyncio.Transport) -> Hashable:
    return uid_at(transport.get_extra_info("socket"))


def _address(transport: asyncio.Transport) -> Hashable:
    # None where the peer has left already.
    return (transport.get_extra_info("peername") or (None,))[0]


def _is_news(record: logging.LogRecord) -> bool:
    """Whether something went wrong here. What isn't HTTP is answered 400, and that is all."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


# aiohttp's own logger tells each malformed request with a traceback.
_QUIET = logging.getLogger("mailweir.admin")
_QUIET.addFilter(_is_news)


def bind_unix(path: Path, mode: int = CLOSED, *, part: str = "admin") -> socket.socket:
    """A listening UNIX socket at `path`. Raises StartError.

    What is left of a process that died is replaced; one that answers is not.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as error:
        raise StartError(
            f"{part}.socket: {path.parent} can't be made: {error.strerror}; make it with this"
            f" user as its owner, or choose another `{part}.socket`"
        ) from None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Set for the bind itself: a chmod afterwards would leave a moment open to all.
    before = os.umask(0o777 & ~mode)
    try:
        _remove_stale(path, part)
        sock.bind(str(path))
        sock.listen()
    except OSError as error:
        sock.close()
        raise StartError(f"{part}.socket: {path} can't be bound: {error.strerror}") from None
    except StartError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def _remove_stale(path: Path, part: str) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(f"{part}.socket: {path} is there and isn't a socket; remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise StartError(f"{part}.socket: another process answers at {path}; is mailweir running?")
