"""How many get in: one peer's share, everybody's, and who always does."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import chain, repeat

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from mailweir.admin import door as module
from mailweir.admin.door import Door
from mailweir.admin.exposition import encode
from mailweir.admin.refusals import Refusals
from unit.admin.scraped import samples

# More than sockets and streams hold between two ends.
_MUCH = "x" * (16 << 20)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Standing:
    """A door that is open, and those who come to it; each is the next of `peers`."""

    def __init__(self, peers: Iterable[str], lifetime: float | None = None) -> None:
        names = iter(peers)
        self._registry = CollectorRegistry()
        self.server = web.Server(self._answer)
        self.door = Door(
            self.server,
            Refusals(self._registry),
            peer_of=lambda _: next(names),
            name="x",
            always=frozenset({"root"}),
            lifetime=lifetime,
        )
        self.sock = socket.create_server(("127.0.0.1", 0))
        self._writers: list[asyncio.StreamWriter] = []

    async def come(self) -> Streams:
        """A new connection."""
        streams = await asyncio.open_connection(*self.sock.getsockname())
        self._writers.append(streams[1])
        return streams

    async def status(self) -> int:
        """What a new connection is answered; it stays."""
        return await ask(await self.come())

    @property
    def refused(self) -> float | None:
        """How many had no place."""
        name = "mailweir_admin_refusals_total"
        return samples(encode(self._registry)).get(f"{name}{{reason=connections}}")

    def leave(self) -> None:
        """Close the connections that there are."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        return web.Response(text="in" if request.path == "/" else _MUCH)


@asynccontextmanager
async def standing(peers: Iterable[str], lifetime: float | None = None) -> AsyncIterator[Standing]:
    """A door while it is open."""
    found = Standing(peers, lifetime)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(found.door, sock=found.sock)
    try:
        async with asyncio.timeout(20):
            yield found
    finally:
        found.leave()
        listening.close()
        await found.server.shutdown(1.0)


async def ask(streams: Streams) -> int:
    """The status of an answer, which has a body of two bytes."""
    reader, writer = streams
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.read(2)
    return int(head.split()[1])


async def test_one_peer_has_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OF_PEER", 2)
    async with standing(chain(("a", "a", "a", "b"), repeat("a"))) as at:
        assert [await at.status() for _ in range(4)] == [200, 200, 429, 200]
        assert at.refused == 1
        at.leave()
        while await at.status() != 200:
            pass


async def test_all_have_one_together_and_some_always_get_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    async with standing(("a", "b", "c", "root")) as at:
        assert [await at.status() for _ in range(4)] == [200, 200, 429, 200]


async def test_a_life_ends() -> None:
    async with standing(("a",), lifetime=0.05) as at:
        reader, _ = await at.come()
        assert await reader.read() == b""


async def test_so_does_that_of_who_does_not_read() -> None:
    async with standing(("a",), lifetime=0.05) as at:
        reader, writer = await at.come()
        writer.write(b"GET /much HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.read(1)
        # aiohttp has no event for it.
        while at.server.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_some_are_put_out() -> None:
    async with standing(("a", "b")) as at:
        (goes, _), stays = await at.come(), await at.come()
        assert await ask(stays) == 200
        own = stays[1].get_extra_info("sockname")
        at.door.put_out(lambda one: one.get_extra_info("peername") == own, after=0.0)
        with suppress(ConnectionResetError):
            assert await goes.read() == b""
        assert await ask(stays) == 200
