"""Bytes of a server as they come: all of them, in order, to the end; not more than are read."""

import asyncio
import socket

import pytest

from mailweir.health.probes.bytestream import ByteStream, opened


async def _pair() -> tuple[ByteStream, socket.socket]:
    own, other = socket.socketpair()
    own.setblocking(False)
    other.setblocking(False)
    return await opened(own), other


async def test_what_comes_is_read_and_then_the_end() -> None:
    stream, other = await _pair()
    with other:
        other.send(b"220 one\r\n")
        assert await stream.read() == b"220 one\r\n"
        waiting = asyncio.create_task(stream.read())
        await asyncio.sleep(0)
        assert not waiting.done()
        other.send(b"221 two\r\n")
        assert await waiting == b"221 two\r\n"
        other.send(b"left")
        other.shutdown(socket.SHUT_WR)
        assert await stream.read() == b"left"
        assert await stream.read() == b""
        # The other direction goes on.
        stream.write(b"QUIT\r\n")
        assert await asyncio.get_running_loop().sock_recv(other, 100) == b"QUIT\r\n"
        stream.close()


async def test_an_error_comes_behind_what_was_said() -> None:
    stream = ByteStream()
    stream.data_received(b"421 going")
    stream.connection_lost(ConnectionResetError())
    assert await stream.read() == b"421 going"
    with pytest.raises(ConnectionResetError):
        await stream.read()
    stream.write(b"QUIT\r\n")  # to nobody
    stream.close()


async def test_a_server_that_says_too_much_waits() -> None:
    stream, other = await _pair()
    with other:
        said = sum(iter(lambda: _sent(other), 0))
        for _ in range(100):
            await asyncio.sleep(0)
            said += _sent(other)
        # What the kernel and one reading take, and not all that is said.
        for _ in range(100):
            await asyncio.sleep(0)
            assert _sent(other) == 0
        heard = 0
        while heard < said:
            heard += len(await stream.read())
        assert heard == said
        stream.close()


def _sent(other: socket.socket) -> int:
    try:
        return other.send(b"x" * 4096)
    except BlockingIOError:
        return 0


async def test_who_is_given_up_leaves_nothing() -> None:
    stream, other = await _pair()
    with other:
        waiting = asyncio.create_task(stream.read())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        other.send(b"late")
        assert await stream.read() == b"late"
        stream.close()
