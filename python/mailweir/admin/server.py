"""Binds the admin socket and the read-only HTTP address. Started and closed by the daemon."""

import asyncio
import logging
import os
import socket
import stat
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path
from typing import cast

import structlog
from aiohttp import web
from aiohttp.http import HttpProcessingError
from prometheus_client import CollectorRegistry

from mailweir.admin.access import CLOSED, Access
from mailweir.admin.balancer import Balancer
from mailweir.admin.door import Door
from mailweir.admin.guard import at_socket, on_tcp
from mailweir.admin.peer import uid_at
from mailweir.admin.refusals import Refusals
from mailweir.admin.routes import read_only, read_write
from mailweir.config.model import Admin
from mailweir.config.roles import Role, Roles
from mailweir.errors import StartError
from mailweir.journal import Journal

# In seconds. For answers under way when the process ends, or their asker's role does.
_CLOSE_TIMEOUT = 1.0
# For a request's head to come, from the connect or the last answer on.
_HEAD_TIMEOUT = 15.0
# For what is left of a body that nobody reads.
_BODY_TIMEOUT = 1.0
# For a connection on TCP: longer than any scrape, and Prometheus connects anew.
_TCP_LIFETIME = 60.0

_log = structlog.get_logger("mailweir")


class AdminServer:
    """The two sites while they are open."""

    def __init__(self, admin: Admin, roles: Roles) -> None:
        self._admin = admin
        self._access = Access(roles)
        # Made in `open`.
        self._runners: list[web.AppRunner] = []
        self._listening: list[asyncio.Server] = []
        self._refusals: Refusals
        self._door: Door

    async def open(
        self,
        balancer: Balancer,
        registry: CollectorRegistry,
        journal: Journal,
        *,
        hostname: str,
    ) -> None:
        """Bind and answer. Raises StartError with what to do."""
        self._refusals = refusals = Refusals(registry)
        guard = at_socket(self._access, refusals, hostname=hostname)
        sock = bind_unix(self._admin.socket, self._access.mode)
        app = read_write(balancer, registry, journal, self._access, guard)
        # Root and we ourselves get in however many others there are.
        always: frozenset[Hashable] = frozenset({0, os.geteuid()})
        door = partial(Door, peer_of=_user, name="admin.socket", always=always)
        self._door = await self._serve(app, sock, door)
        if self._admin.http is not None:
            http = self._admin.http
            family = socket.AF_INET6 if http.ip.version == 6 else socket.AF_INET
            try:
                tcp = socket.create_server((str(http.ip), http.port), family=family)
            except OSError as error:
                raise StartError(
                    f"admin.http: {http} can't be bound: {error.strerror}"
                    " (choose another address, or `http: off`)"
                ) from None
            app = read_only(balancer, registry, on_tcp(refusals, hostname=hostname))
            door = partial(Door, peer_of=_address, name="admin.http", lifetime=_TCP_LIFETIME)
            await self._serve(app, tcp, door)

    def take(self, roles: Roles) -> None:
        """Let these roles count, for those who are connected too. Called at a reload."""
        try:
            self._access.take(roles, self._admin.socket)
        except OSError as error:
            _log.error(
                "the admin socket's permissions can't be changed; restart mailweir",
                socket=str(self._admin.socket),
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
            self._admin.socket.unlink(missing_ok=True)
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


def bind_unix(path: Path, mode: int = CLOSED) -> socket.socket:
    """A listening UNIX socket at `path`. Raises StartError.

    What is left of a process that died is replaced; one that answers is not.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as error:
        raise StartError(
            f"admin.socket: {path.parent} can't be made: {error.strerror}; make it with this"
            " user as its owner, or choose another `admin.socket`"
        ) from None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Set for the bind itself: a chmod afterwards would leave a moment open to all.
    before = os.umask(0o777 & ~mode)
    try:
        _remove_stale(path)
        sock.bind(str(path))
        sock.listen()
    except OSError as error:
        sock.close()
        raise StartError(f"admin.socket: {path} can't be bound: {error.strerror}") from None
    except StartError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def _remove_stale(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(f"admin.socket: {path} is there and isn't a socket; remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise StartError(f"admin.socket: another process answers at {path}; is mailweir running?")
