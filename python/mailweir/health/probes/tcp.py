"""Checks that a server accepts connections.

Where the pool speaks SMTP the connection still ends as a mail server likes it: the
greeting is read if it comes soon and QUIT is said, so that its log stays clean. The
verdict doesn't depend on that.
"""

import asyncio
import socket

from mailweir.health.probes.dial import Progress

_COURTESY = 1.0  # seconds for each, the greeting and the answer to QUIT
_MOST = 4096  # bytes; a greeting isn't longer, and what is isn't waited for


async def probe(sock: socket.socket, progress: Progress, *, smtp: bool) -> None:
    """`sock` is connected, which is all that is asked; this closes it."""
    progress.passed = True
    if not smtp:
        sock.close()
        return
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        await _leave(reader, writer)
    except (OSError, TimeoutError):
        return
    finally:
        writer.close()


async def _leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(_COURTESY):
        await reader.read(_MOST)
    writer.write(b"QUIT\r\n")
    async with asyncio.timeout(_COURTESY):
        await reader.read(_MOST)
