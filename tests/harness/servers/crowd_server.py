"""A mail server for any number of clients, as a program of its own.

python crowd_server.py MODE SIZE HOST PORT; it prints its port. `polite` takes every mail, `flood`
says SIZE pieces behind its greeting, `deaf` greets and reads nothing until USR1, then all there is,
and answers with its SHA-256.
"""

import asyncio
import hashlib
import resource
import signal
import socket
import sys
from contextlib import suppress

GREETING = b"220 crowd.test ESMTP\r\n"
PIECE = bytes(range(256)) * 256


def allow_descriptors() -> None:
    """As many as may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Polite(asyncio.Protocol):
    """A mail server that takes everything."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._pending = b""
        self._in_data = False
        transport.write(GREETING)

    def data_received(self, data: bytes) -> None:
        *lines, self._pending = (self._pending + data).split(b"\r\n")
        for line in lines:
            self._hear(line)

    def _hear(self, line: bytes) -> None:
        if self._in_data:
            if line != b".":
                return
            self._in_data = False
            self._transport.write(b"250 2.0.0 taken\r\n")
        elif line == b"DATA":
            self._in_data = True
            self._transport.write(b"354 go\r\n")
        elif line == b"QUIT":
            self._transport.write(b"221 2.0.0 bye\r\n")
            self._transport.close()
        else:
            self._transport.write(b"250 2.0.0 fine\r\n")


async def _flood(writer: asyncio.StreamWriter, size: int) -> None:
    # What isn't taken waits in the kernel of the balancer, and not here.
    writer.transport.set_write_buffer_limits(high=0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    with suppress(ConnectionError):
        writer.write(GREETING)
        for _ in range(size):
            writer.write(PIECE)
            await writer.drain()
    writer.close()


async def _deaf(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hears: asyncio.Event
) -> None:
    transport = writer.transport
    assert isinstance(transport, asyncio.Transport)
    transport.pause_reading()
    writer.write(GREETING)
    await hears.wait()
    transport.resume_reading()
    heard = hashlib.sha256()
    while piece := await reader.read(1 << 20):
        heard.update(piece)
    writer.write(heard.hexdigest().encode())
    writer.close()


async def _serve(mode: str, size: int, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    over, hears = asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    loop.add_signal_handler(signal.SIGUSR1, hears.set)
    backlog = 4096
    match mode:
        case "polite":
            server = await loop.create_server(_Polite, host, port, backlog=backlog)
        case "flood":
            server = await asyncio.start_server(
                lambda _, writer: _flood(writer, size), host, port, backlog=backlog
            )
        case _:
            server = await asyncio.start_server(
                lambda reader, writer: _deaf(reader, writer, hears), host, port, backlog=backlog
            )
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()


if __name__ == "__main__":
    allow_descriptors()
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
