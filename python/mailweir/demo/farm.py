"""The demo's mail servers on loopback: one quick, one slow, one that comes and goes."""

import asyncio
import re
import socket
from collections.abc import Callable
from functools import partial
from weakref import WeakSet

from aiosmtpd.smtp import SMTP, Envelope, Session

from mailweir.demo.ledger import Ledger

HOST = "127.0.0.1"
NUMBER_HEADER = "X-Demo-Mail"
# How long `flaky` is up and down, in seconds. A whole outage, found by the checks and
# over again, fits into the 15 s of `--once`.
UP, DOWN = 6.0, 4.0

_SLOW = 0.15  # seconds before the answers to EHLO and to the final dot
_NUMBER = re.compile(rb"^X-Demo-Mail: ([0-9]+)\r?$", re.MULTILINE)


class MailServer:
    """An SMTP server whose listening socket can be closed and opened again."""

    def __init__(self, name: str, ledger: Ledger, *, delay: float = 0.0) -> None:
        self.name = name
        self.mails = 0
        self.outages = 0
        self.returns = 0
        # Bound for good and never listening: without it, some connection could be given
        # the port as its own while the server is down.
        self._reserved = _bound(0)
        self.port: int = self._reserved.getsockname()[1]
        self._inbox = _Inbox(self, ledger, delay)
        self._listening: socket.socket | None = None
        self._accepting: set[asyncio.Task[None]] = set()
        self._transports: WeakSet[asyncio.Transport] = WeakSet()

    def open(self) -> None:
        """Listen."""
        listening = _bound(self.port)
        listening.listen()
        asyncio.get_running_loop().add_reader(listening, self._accept, listening)
        self._listening = listening

    def close(self) -> None:
        """Refuse new sessions; those under way go on, and so do those in the accept queue."""
        if self._listening is None:
            return
        asyncio.get_running_loop().remove_reader(self._listening)
        self._accept(self._listening)
        self._listening.close()
        self._listening = None

    def end(self) -> None:
        """End every session and give the port back."""
        self.close()
        for transport in self._transports:
            transport.abort()
        self._reserved.close()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            task = asyncio.get_running_loop().create_task(self._serve(connection))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        name = f"{self.name}.demo.example"
        session = partial(SMTP, self._inbox, hostname=name, ident="ESMTP mailweir demo", loop=loop)
        transport, _ = await loop.connect_accepted_socket(session, connection)
        self._transports.add(transport)


class _Inbox:
    """What aiosmtpd calls for the commands of a session; its names are aiosmtpd's."""

    def __init__(self, server: MailServer, ledger: Ledger, delay: float) -> None:
        self._server = server
        self._ledger = ledger
        self._delay = delay

    async def handle_EHLO(  # noqa: N802
        self, _: SMTP, session: Session, __: Envelope, hostname: str, replies: list[str]
    ) -> list[str]:
        session.host_name = hostname
        await asyncio.sleep(self._delay)
        return replies

    async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:  # noqa: N802
        await asyncio.sleep(self._delay)
        self._server.mails += 1
        number = _NUMBER.search(envelope.original_content or b"")
        if number:
            self._ledger.arrive(int(number[1]))
        return f"250 2.0.0 {self._server.name} has it"


class Farm:
    """The three servers. They listen once they are opened."""

    def __init__(self, ledger: Ledger) -> None:
        self.swift = MailServer("swift", ledger)
        self.slow = MailServer("slow", ledger, delay=_SLOW)
        self.flaky = MailServer("flaky", ledger)
        self.servers = (self.swift, self.slow, self.flaky)

    def open(self) -> None:
        for server in self.servers:
            server.open()

    def end(self) -> None:
        for server in self.servers:
            server.end()


async def come_and_go(
    server: MailServer, say: Callable[[str], None], *, up: float = UP, down: float = DOWN
) -> None:
    """Take the server down and bring it back, until cancelled."""
    while True:
        await asyncio.sleep(up)
        server.close()
        server.outages += 1
        say(f"{server.name} goes down: its socket is closed, sessions under way may finish")
        await asyncio.sleep(down)
        server.open()
        server.returns += 1
        say(f"{server.name} is back: its socket is open again")


def _bound(port: int) -> socket.socket:
    # asyncio sets TCP_NODELAY only where the protocol is given; without it, replies wait
    # 40 ms for the other side's delayed ACK.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setblocking(False)
    # For the reserved and the listening socket to share the port, and for a listening
    # one to come back while sessions of the last one are open.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOST, port))
    return sock
