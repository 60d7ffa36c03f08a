"""Asks `mailweir run` on this node how it is, several times a second, and tells it the node's role.

Over its admin socket, as `mailweir healthcheck` does; but not by `admin.client`, which waits for as
long as each step of an answer takes: here the whole has a limit, and a process that hangs holds up
nothing. Used by `agent`.
"""

import asyncio
import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mailweir.admin.client import candidates
from mailweir.ha.clock import now as present
from mailweir.ha.machine.facts import BalancerHealth
from mailweir.ha.machine.grace import Answer, Grace
from mailweir.ha.machine.operator_words import Said

_EVERY = 0.2
# What it comes to where there is no answer, or none that can be understood.
_NO_ANSWER = (OSError, ValueError, KeyError, TypeError, TimeoutError, RecursionError)
# Of one answer. A process that takes longer is busy or hung, and asked again.
_LIMIT = 1.0
# Of one answer, in bytes: with 10 000 pools it names those that have no server.
_MOST = 1 << 23
# Seconds that the addresses wait for sessions to hear that they go.
_MOVE_LIMIT = 0.5
# Between tries to get into a queue that is full.
_QUEUE_LOOK = 0.01


class Asking:
    """The process beside ours."""

    def __init__(
        self,
        socket: Path,
        grace: Grace,
        on_health: Callable[[BalancerHealth], None],
        waits: Callable[[], bool],
    ) -> None:
        """`waits` says whether somebody listens where clients come, whatever process that is."""
        self.grace = grace
        self._socket = socket
        self._on_health = on_health
        self._waits = waits
        self._role, self._alarms = "backup", 0
        self._news = asyncio.Event()
        self._told: tuple[int, str, int] | None = None  # which process, and what
        self._health: BalancerHealth | None = None
        self._parts: tuple[object, dict[str, bytes]] = ("", {})  # of which digest
        self._words: tuple[object, tuple[Said, ...] | None] = (None, None)  # the same

    def has_role(self, role: str, *, alarms: int) -> None:
        """What it is told now: it ends in another way where it has the addresses, and shows how
        many alarms there are.
        """
        self._role, self._alarms = role, alarms
        self._news.set()

    async def watch(self) -> None:
        """Ask until cancelled; `on_health` is called where something is new."""
        while True:
            began = time.monotonic()
            health = await self.ask()
            if health != self._health:
                self._health = health
                self._on_health(health)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.05, _EVERY - (time.monotonic() - began))):
                    await self._news.wait()
            self._news.clear()

    async def ask(self) -> BalancerHealth:
        """Once."""
        asked = time.monotonic()
        limit = min(_LIMIT, self.grace.left(asked))
        try:
            answer = await self._answer(limit)
        except (FileNotFoundError, ConnectionRefusedError):
            kept = await asyncio.to_thread(self._waits)
            return self.grace.silent(time.monotonic(), gone=True, kept=kept, asked=asked)
        except _NO_ANSWER:
            return self.grace.silent(time.monotonic(), gone=False, kept=False, asked=asked)
        if self._told != (answer.pid, self._role, self._alarms):
            await self.tell(answer.pid)
        return self.grace.answered(answer, time.monotonic())

    async def tell(self, pid: int) -> None:
        """Say which role this node has; that it can't be said does no harm."""
        role, alarms = self._role, self._alarms
        try:
            route = f"/api/v1/ha/{role}?by=native&alarms={alarms}"
            await self._request("POST", route, _LIMIT)
        except _NO_ANSWER:
            return
        self._told = (pid, role, alarms)

    async def addresses_move(self) -> None:
        """Say so to one that drains, so that the sessions it has still end while their addresses
        are here.
        """
        if self.grace.drains:
            with suppress(*_NO_ANSWER):
                await self._request("POST", "/api/v1/ha/move", _MOVE_LIMIT)

    async def _answer(self, limit: float) -> Answer:
        found = await self._request("GET", "/api/v1/health", limit)
        if found["digest"] != self._parts[0]:
            told = await self._request("GET", "/api/v1/digests", limit)
            parts = told["parts"]
            if not isinstance(parts, dict):
                raise TypeError("parts")
            named = {str(name): bytes.fromhex(str(one)) for name, one in parts.items()}
            self._parts = (told["digest"], named)
        # A process of an earlier version tells none.
        if found.get("words") != self._words[0]:
            told = await self._request("GET", "/api/v1/words", limit)
            self._words = (told["digest"], _words(told["words"], present() - time.time()))
        return _answer(found, self._parts[1], self._words[1])

    async def _request(self, method: str, route: str, limit: float) -> dict[str, object]:
        async with asyncio.timeout(limit):
            sock = await _connected(self._socket)
            reader, writer = await asyncio.open_unix_connection(sock=sock)
            try:
                head = f"{method} {route} HTTP/1.0\r\nHost: localhost\r\n\r\n"
                writer.write(head.encode("ascii"))
                status = await reader.readline()
                if b" 200 " not in status:
                    raise ValueError(status.decode("latin-1"))
                while (await reader.readline()).strip():
                    pass
                found = json.loads(await _rest(reader))
                if not isinstance(found, dict):
                    raise ValueError("no object")
                return found
            finally:
                writer.close()


async def _connected(path: Path) -> socket.socket:
    """Raises OSError. Where the queue is full, it waits for a place."""
    *private, public = candidates(path)
    for one in private:
        with suppress(OSError):
            return await _connected_to(one)
    return await _connected_to(public)


async def _connected_to(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:
                # An event loop would take it for connected.
                await asyncio.sleep(_QUEUE_LOOK)
            else:
                return sock
    except BaseException:
        sock.close()
        raise


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """Up to its end: a read returns what has come so far."""
    found = bytearray()
    while part := await reader.read(_MOST):
        found += part
        if len(found) > _MOST:
            raise ValueError("too long")
    return bytes(found)


def _words(told: object, ahead: float) -> tuple[Said, ...]:
    """`ahead` is how far our clock is ahead of the one that they are told by."""
    if not isinstance(told, list):
        raise TypeError("words")
    found = []
    for one in told:
        until = one["until"]
        # A word that only a later version knows.
        with suppress(ValueError):
            found.append(Said(str(one["what"]), None if until is None else float(until) + ahead))
    return tuple(found)


def _answer(
    found: dict[str, object], parts: dict[str, bytes], words: tuple[Said, ...] | None
) -> Answer:
    pools = found["pools_down"]
    if not isinstance(pools, list):
        raise TypeError("pools_down")
    return Answer(
        pid=_number(found["pid"]),
        listening=found["listening"] is True,
        ending=found["ending"] is True,
        workers_alive=found["workers_alive"] is True,
        sessions=_number(found["sessions"]),
        servers=_number(found["servers"]),
        up=_number(found["up"]),
        pools_down=tuple(map(str, pools)),
        paused=str(found["paused"]),
        generation=_number(found["generation"]),
        digest=bytes.fromhex(str(found["digest"])),
        parts=parts,
        words=words,
    )


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(str(value))
    return value
