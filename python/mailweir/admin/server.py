"""Binds an admin socket and a read-only HTTP address: of `mailweir run`, and of `mailweir ha`.
Started and closed by these processes, which say what is answered there.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Collection, Hashable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import cast

import structlog
from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.typedefs import Middleware
from prometheus_client import CollectorRegistry

from mailweir.admin.access import Access
from mailweir.admin.client import private_path
from mailweir.admin.credentials import uid_at
from mailweir.admin.door import Door
from mailweir.admin.guard import Hosts, at_socket, on_tcp
from mailweir.admin.place import BACKLOG, PRIVATE, Found, Place
from mailweir.admin.refusals import Refusals
from mailweir.config.address import Address
from mailweir.config.roles import Role, Roles
from mailweir.errors import MailweirError, StalledError, StartError
from mailweir.faults import FaultPart, Faults, kept_going
from mailweir.lanes import Lane
from mailweir.late_addresses import may_come_later

# In seconds. For answers under way when the process ends, or their asker's role does.
_CLOSE_TIMEOUT = 0.5
# For a request's head to come, from the connect or the last answer on.
_HEAD_TIMEOUT = 15.0
# For what is left of a body that nobody reads.
_BODY_TIMEOUT = 1.0
# For a connection on TCP: longer than any scrape, and Prometheus connects anew.
_TCP_LIFETIME = 60.0
# Between looks at whether the sockets are still where they were made.
_LOOK = 2.0
# For a disk that a socket is to be made on.
_DISK_LIMIT = 10.0

_log = structlog.get_logger("mailweir")


# What is answered at the socket, where `Access` says who asks, and what on TCP.
Answers = tuple[
    Callable[[Access, Middleware], web.Application], Callable[[Middleware], web.Application]
]


class AdminServer:
    """The sites while they are open: the socket, the private one beside it, and TCP."""

    def __init__(
        self,
        path: Path,
        http: Address | None,
        roles: Roles,
        hosts: Hosts,
        *,
        part: str,
        faults: Faults,
        inherited: Callable[[str], socket.socket | None] = lambda _: None,
    ) -> None:
        """`part` is the key of the configuration that has `socket` and `http`. `inherited` gives
        the listening socket of an address, where the process before this one has handed it on.
        """
        self._path = path
        self._http = http
        self._part = part
        self._faults = faults
        self._access = Access(roles)
        self._hosts = hosts
        self._inherited = inherited
        self._lane = Lane(f"{part}.socket")
        # Why the socket can't be found by who looks for it; empty where it can.
        self.problem = ""
        # Made in `open`.
        self._runners: list[web.AppRunner] = []
        self._listening: list[asyncio.Server] = []
        self._places: dict[Path, Place] = {}  # changed in the lane alone
        self._served: dict[Path, asyncio.Server] = {}
        self._tcp: dict[str, socket.socket] = {}
        self._looking: asyncio.Task[None] | None = None
        self._refusals: Refusals
        self._door: Door

    async def open(self, answers: Answers, registry: CollectorRegistry) -> None:
        """Bind and answer. Raises StartError with what to do."""
        read_write, read_only = answers
        self._refusals = refusals = Refusals(registry)
        guard = at_socket(self._access, refusals, self._faults, self._hosts)
        # Root and we ourselves get in however many others there are.
        always: frozenset[Hashable] = frozenset({0, os.geteuid()})
        door = partial(Door, peer_of=_user, name=f"{self._part}.socket", always=always)
        self._door = await self._door_of(read_write(self._access, guard), door)
        for path in (self._path, private_path(self._path)):
            await self._listen_at(path)
        if self._http is not None:
            app = read_only(on_tcp(refusals, self._faults, self._hosts, name=f"{self._part}.http"))
            door = partial(
                Door, peer_of=_address, name=f"{self._part}.http", lifetime=_TCP_LIFETIME
            )
            made = await self._door_of(app, door)
            address = str(self._http)
            bound = self._tcp[address] = self._inherited(address) or self._bind_tcp(self._http)
            self._listening.append(await _listening(made, bound))
        self._looking = asyncio.create_task(
            kept_going(FaultPart.SOCKET, self._look_after_sockets, self._faults)
        )

    def _bind_tcp(self, http: Address) -> socket.socket:
        """Also where the address comes later: after a power cut everything begins at once."""
        family = socket.AF_INET6 if http.ip.version == 6 else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # As listeners: IPv4 is another address.
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
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

    async def _listen_at(self, path: Path) -> None:
        """Raises StartError, and StalledError."""
        what = f"making {path}"
        place = await self._lane.call(partial(self._make, path), limit=_DISK_LIMIT, what=what)
        self._served[path] = await _listening(self._door, place.socket)

    def _make(self, path: Path) -> Place:
        """In the lane. It is known even where whoever wanted it has given up meanwhile."""
        mode = self._access.mode if path == self._path else PRIVATE
        place = Place(path, mode, self._part, self._inherited(str(path)))
        self._places[path] = place
        return place

    async def _look_after_sockets(self) -> None:
        """Whoever tidies up may take them away. Until it is cancelled."""
        while True:
            await asyncio.sleep(_LOOK)
            problems = [await self._look_after(path) for path in list(self._served)]
            problem = "; ".join(filter(None, problems))
            if problem and problem != self.problem:
                _log.error("the admin socket can't be found", reason=problem)
            self.problem = problem

    async def _look_after(self, path: Path) -> str:
        """What is wrong with it, and can't be mended here."""
        listening = self._served[path]
        found = await self._lane.call(self._places[path].find)
        if found is Found.OURS:
            return ""
        if found is Found.ANOTHER:
            return f"{path} is something else now; remove it, and the socket is made again"
        try:
            await self._listen_at(path)
        except MailweirError as error:
            return str(error)
        listening.close()
        _log.warning("the admin socket was removed, and is made again", socket=str(path))
        return ""

    async def take(self, roles: Roles, hosts: Iterable[str]) -> None:
        """Let these roles and names count, for those who are connected too. Called at a reload."""
        self._hosts.take(hosts)
        try:
            await self._access.take(roles, self._change_mode)
        except (OSError, MailweirError) as error:
            _log.error(
                "the admin socket's permissions can't be changed",
                socket=str(self._path),
                reason=str(error),
            )
        self._refusals.forget()
        # Not at once: who asked for the reload is to hear how it went.
        self._door.put_out(self._has_role, after=_CLOSE_TIMEOUT)

    async def _change_mode(self, mode: int) -> os.stat_result:
        place = self._places[self._path]
        what = f"changing the permissions of {self._path}"
        return await self._lane.call(
            partial(place.change_mode, mode), limit=_CLOSE_TIMEOUT, what=what
        )

    def _has_role(self, transport: asyncio.Transport) -> bool:
        return self._access.role_at(transport.get_extra_info("socket")) is not Role.NONE

    def listening(self) -> dict[str, int]:
        """Descriptors of the listening sockets, by their addresses; they stay ours."""
        sockets = {str(path): place.socket for path, place in self._places.items()} | self._tcp
        return {address: one.fileno() for address, one in sockets.items()}

    def stop_listening(self) -> None:
        """Whoever asks from now on is answered by the next process; who is connected, here."""
        for listening in (*self._listening, *self._served.values()):
            listening.close()

    async def leave(self, taken: Collection[str]) -> None:
        """Stop answering, and leave the sockets of these addresses to the next process."""
        for path in list(self._places):
            if str(path) in taken:
                del self._places[path]
        await self.close()

    async def close(self) -> None:
        """Stop answering and take the sockets away, as far as they are ours."""
        if self._looking is not None:
            self._looking.cancel()
        self.stop_listening()
        self._listening.clear()
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))
        self._runners.clear()
        with suppress(StalledError):
            await self._lane.call(self._give_back, limit=_CLOSE_TIMEOUT)

    def _give_back(self) -> None:
        """In the lane, behind what was begun there."""
        for path, place in self._places.items():
            place.give_back()
            if path not in self._served:
                place.socket.close()
        self._places.clear()

    async def _door_of(
        self, app: web.Application, door: Callable[[web.Server, Refusals], Door]
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
        return door(cast(web.Server, runner.server), self._refusals)


async def _listening(door: Door, sock: socket.socket) -> asyncio.Server:
    """Takes the socket over."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(door, sock=sock, backlog=BACKLOG)


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
