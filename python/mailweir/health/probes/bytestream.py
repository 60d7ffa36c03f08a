"""A connection to a server as bytes that come and go. Used by the probes, and by the doctor.

Not asyncio's streams: a check has few bytes to read and nothing to wait for when it writes, and
with thousands of checks what streams do beside that is most of what a check costs.
"""

import asyncio
import socket
from ssl import SSLContext, SSLObject
from typing import cast

# Bytes that nobody has read yet; beyond that the server waits.
_MOST = 64 << 10


class ByteStream(asyncio.Protocol):
    """One connection, read by one task."""

    def __init__(self) -> None:
        self._said = b""
        self._is_over = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self.tls: SSLObject | None = None  # its state, once it has begun

    # --- what is done with it -----------------------------------------------

    async def read(self) -> bytes:
        """What came since, at least a byte of it; nothing at its end. Raises OSError."""
        if not self._said and not self._is_over:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._said:
            said, self._said = self._said, b""
            if len(said) > _MOST and self._transport and not self._is_over:
                self._transport.resume_reading()
            return said
        if self._error:
            raise self._error
        return b""

    def write(self, data: bytes) -> None:
        """Without waiting."""
        if self._transport:
            self._transport.write(data)

    async def begin_tls(self, context: SSLContext, name: str | None) -> None:
        """From here on. Raises what a handshake raises."""
        if self._transport is None:
            raise EOFError
        loop = asyncio.get_running_loop()
        made = await loop.start_tls(self._transport, self, context, server_hostname=name)
        if made is None:
            raise EOFError
        self._transport = made
        self.tls = made.get_extra_info("ssl_object")

    def close(self) -> None:
        """What was written is still sent."""
        if self._transport:
            self._transport.close()

    async def gone(self) -> None:
        """Waits until that is done."""
        while self._transport:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    # --- what the event loop tells -----------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports aren't of this class, and have all of it.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._said += data
        if len(self._said) > _MOST and self._transport:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._is_over = True
        self._wake()
        # We go on to write; TLS can't.
        return self.tls is None

    def connection_lost(self, error: Exception | None) -> None:
        self._is_over, self._error = True, error
        # Each holds the other: so neither has to be looked for as garbage.
        self._transport = None
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter and not waiter.done():
            waiter.set_result(None)


async def opened(sock: socket.socket) -> ByteStream:
    """Of a connected socket, which is the stream's from here on."""
    _, stream = await asyncio.get_running_loop().create_connection(ByteStream, sock=sock)
    return stream
