"""Both ends of sessions, held by the test itself: it knows what each sent and was sent."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from harness.clients.dialogue import Address
from harness.networks.ports import SERVER_HOST
from harness.servers.scripted import Stream
from harness.waiting import LIMIT

_GREETING = b"220 mx.server.test ESMTP\r\n"


class Acceptor:
    """A server. What connects to it waits until the test takes it, in turn."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.address = "{}:{}".format(*listening.getsockname())

    def accept(self) -> Stream:
        """The next connection."""
        return Stream(self._listening.accept()[0])

    def forget_check(self) -> None:
        """Take the next connection for that of a check, which is over, and close it."""
        self.accept().socket.close()

    def close(self) -> None:
        """Refuse connections from now on."""
        self._listening.close()


@contextmanager
def accepting() -> Iterator[Acceptor]:
    """Such a server."""
    with socket.create_server((SERVER_HOST, 0), backlog=100) as listening:
        listening.settimeout(LIMIT)
        yield Acceptor(listening)


class Session:
    """A session, or one that was refused: then without a server."""

    def __init__(self, address: Address) -> None:
        self.client = Stream(socket.create_connection(address, LIMIT))
        self.port: int = self.client.socket.getsockname()[1]
        self._server: Stream | None = None
        # What the balancer said itself.
        self.told = b""
        self.took_leave = b""

    @property
    def server(self) -> Stream:
        """The other end."""
        assert self._server is not None
        return self._server

    def close(self) -> None:
        """Both ends, if they aren't yet."""
        self.client.socket.close()
        if self._server:
            self._server.socket.close()

    @property
    def was_taken(self) -> bool:
        """Whether there is one."""
        return self._server is not None

    def taken_by(self, server: Acceptor) -> None:
        """The server takes it; it is greeted, and through with its EHLO."""
        self._server = server.accept()
        self.server_says(_GREETING)
        self.client_says(b"EHLO client.test\r\n")
        self.server_says(b"250 mx.server.test\r\n")

    def client_says(self, line: bytes) -> None:
        """The server hears it, and nothing else."""
        self.client.send(line)
        assert self.server.line() == line

    def server_says(self, line: bytes) -> None:
        """The client hears it, and nothing else."""
        self.server.send(line)
        assert self.client.line() == line

    def is_told(self, words: str) -> None:
        """The client hears this of the balancer, then an end of stream; the server QUIT."""
        self.told = self.client.rest()
        said = self.told.decode()
        assert said.startswith(f"421 4.3.2 {socket.gethostname()} "), said
        assert words in said
        self.client.socket.close()
        if self._server:
            self.took_leave = self.server.rest()
            assert self.took_leave == b"QUIT\r\n"
            self.server.socket.close()

    def both_end(self, first: Stream) -> None:
        """Both hear an end of stream and nothing else, this one first."""
        second = self.server if first is self.client else self.client
        for end in (first, second):
            assert end.rest() == b""
            end.socket.close()

    def is_reset(self, end: Stream) -> None:
        """This end hears a reset and nothing else."""
        with pytest.raises(ConnectionResetError):
            end.line()
        end.socket.close()

    def is_reset_or_ended(self, end: Stream) -> None:
        """This end hears a reset or an end of stream, and nothing else."""
        with suppress(ConnectionResetError):
            assert end.line() == b""
        end.socket.close()

    def counted(self) -> tuple[int, int]:
        """Bytes that the client sent and was sent; both ends agree on them."""
        received, sent = self.client.sent, self.client.received - len(self.told)
        if self._server:
            assert (received, sent) == (
                self.server.received - len(self.took_leave),
                self.server.sent,
            )
        return received, sent
