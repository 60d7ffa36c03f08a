"""A client that says exactly what a test wants, and sees exactly how it is answered."""

import socket
import ssl
from types import TracebackType
from typing import Self

from harness.waiting import LIMIT

Address = tuple[str, int]


class Client:
    """One TCP connection. Every wait is limited; a reset raises ConnectionResetError."""

    def __init__(self, address: Address, source: int = 0, host: str = "") -> None:
        """`source` and `host` are its own port and address, where they matter."""
        source_address = (host, source) if source or host else None
        self._take(socket.create_connection(address, LIMIT, source_address))

    @classmethod
    def of(cls, connected: socket.socket) -> Self:
        """By a socket that is connected, whatever its limit."""
        client = cls.__new__(cls)
        client._take(connected)
        return client

    def _take(self, connected: socket.socket) -> None:
        self.socket = connected
        # A dialogue of small turns, which Nagle's algorithm would hold back.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close both directions."""
        self._reader.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def line(self) -> str:
        """The next line without its end; empty at the end of the stream."""
        return self.read_line().decode("ascii").removesuffix("\r\n")

    def read_line(self) -> bytes:
        """The next line as it is."""
        return self._reader.readline()

    def reply(self) -> str:
        """The last line of the next reply, which may have several."""
        line = self.line()
        while line[3:4] == "-":
            line = self.line()
        return line

    def expect(self, code: str, command: str = "") -> None:
        """Send a command, if any, and fail unless the reply begins with `code`."""
        if command:
            self.send(f"{command}\r\n".encode())
        reply = self.reply()
        assert reply.startswith(code), f"{command or 'connected'!r} got {reply!r}"

    def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """Go on inside TLS, behind the server's word for it."""
        self.expect("220", "STARTTLS")
        self._reader.close()
        self.socket = context.wrap_socket(self.socket, server_hostname=name)
        self._reader = self.socket.makefile("rb")

    def begin_mail(self) -> None:
        """From the greeting to where the message itself is sent."""
        self.expect("220")
        self.expect("250", "EHLO client.test")
        self.expect("250", "MAIL FROM:<sender@client.test>")
        self.expect("250", "RCPT TO:<box@server.test>")
        self.expect("354", "DATA")

    def mail(self, box: str = "box@server.test") -> None:
        """From where commands are taken to the end of the stream: a mail, and QUIT."""
        self.expect("250", "MAIL FROM:<sender@client.test>")
        self.expect("250", f"RCPT TO:<{box}>")
        self.expect("354", "DATA")
        self.expect("250", "Subject: hello\r\n\r\nhello\r\n.")
        self.expect("221", "QUIT")
        assert self.rest() == b""

    def read(self, size: int) -> bytes:
        """So many bytes; fewer at the end of the stream."""
        return self._reader.read(size)

    def rest(self) -> bytes:
        """Everything up to the end of the stream."""
        return self._reader.read()


def refused(address: Address) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection(address, timeout=LIMIT).close()
    except ConnectionRefusedError:
        return True
    return False
