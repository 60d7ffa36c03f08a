"""A server on loopback that plays a scripted conversation, and remembers what it was told."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mailweir.config.address import Address, parse_server

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Scripted:
    """Where it is, what it heard line by line, and how the client ended ("fin" or "reset")."""

    address: Address
    heard: list[bytes] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def playing(script: Script) -> AsyncIterator[Scripted]:
    """Run `script` for each connection; afterwards listen until the client ends."""
    found: Scripted | None = None
    open_now: dict[asyncio.StreamWriter, asyncio.Event] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert found is not None
        open_now[writer] = ended = asyncio.Event()
        try:
            await script(_Recording(reader, found.heard), writer)
            while line := await reader.readline():
                found.heard.append(line)
            found.ended.append("fin")
        except ConnectionError:
            found.ended.append("reset")
        finally:
            writer.close()
            found.over.set()
            ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    found = Scripted(parse_server(f"127.0.0.1:{port}"))
    async with server:
        yield found
        # A handler that is cancelled with its loop would complain (Python 3.11's streams).
        for writer, ended in open_now.items():
            writer.transport.abort()
            await ended.wait()


class _Recording(asyncio.StreamReader):
    """Passes on what comes, and keeps the lines."""

    def __init__(self, reader: asyncio.StreamReader, heard: list[bytes]) -> None:
        super().__init__()
        self._inner = reader
        self._heard = heard

    async def readline(self) -> bytes:
        line = await self._inner.readline()
        self._heard.append(line)
        return line

    async def read(self, n: int = -1) -> bytes:
        return await self._inner.read(n)


def say(*pieces: bytes) -> Script:
    """Send the pieces, each on its own, then answer EHLO and QUIT as a server does."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        await answer(reader, writer)

    return script


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer commands until QUIT."""
    while line := await reader.readline():
        if line.upper().startswith(b"EHLO"):
            writer.write(b"250-mx.example\r\n250-PIPELINING\r\n250 SIZE 1000\r\n")
        elif line.upper().startswith(b"QUIT"):
            writer.write(b"221 2.0.0 bye\r\n")
            return
        else:
            writer.write(b"502 5.5.2 no\r\n")


async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing and close."""
    writer.close()


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing and reset: linger 0 turns the close into an RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


async def silence(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Say nothing."""
