"""A mail server that is as slow as it is told, as a program of its own. Started by `farm`.

It has a limit of sessions at a time, as Postfix has of processes: who comes beyond that waits for
the greeting until a session ends. It prints its port. At TERM it refuses connections, lets its
sessions end and prints when each of them began and ended, on time.monotonic's clock.
"""

import argparse
import asyncio
import json
import resource
import signal
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import cast

import uvloop

_BACKLOG = 4096
_DELAYED = ("greeting", "command", "message")


@dataclass
class Server:
    """What sessions share. Delays are in seconds; each is from half to one and a half of that."""

    places: int
    delays: dict[str, float]
    random: Random
    waiting: deque["Session"] = field(default_factory=deque)
    served: list[tuple[float, float]] = field(default_factory=list)
    open: int = 0
    is_idle: asyncio.Event = field(default_factory=asyncio.Event)

    def come(self, session: "Session") -> None:
        """A client has connected."""
        self.open += 1
        self.is_idle.clear()
        self.waiting.append(session)
        self._begin()

    def leave(self, session: "Session") -> None:
        """Its connection is gone."""
        self.open -= 1
        if not self.open:
            self.is_idle.set()
        if session.has_place:
            self.places += 1
        else:
            self.waiting.remove(session)
        self._begin()

    def delay(self, what: str) -> float:
        """How long this takes, this time."""
        return self.delays[what] * self.random.uniform(0.5, 1.5)

    def _begin(self) -> None:
        while self.places and self.waiting:
            self.places -= 1
            self.waiting.popleft().begin()


class Session(asyncio.Protocol):
    """One client. Of the dialogue no more is known than is used here; checks send no MAIL, and
    aren't counted.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._began = 0.0
        self._pending = b""
        self._in_data = False
        self._is_mail = False
        self.has_place = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports aren't of this class, and have all of it.
        self._transport = cast(asyncio.Transport, transport)
        self._began = time.monotonic()
        self._server.come(self)

    def begin(self) -> None:
        """It has a place."""
        self.has_place = True
        self._answer("greeting", b"220 farm.test ESMTP")

    def data_received(self, data: bytes) -> None:
        *lines, self._pending = (self._pending + data).split(b"\r\n")
        for line in lines:
            self._hear(line)

    def connection_lost(self, _: Exception | None) -> None:
        if self._is_mail:
            self._server.served.append((self._began, time.monotonic()))
        self._server.leave(self)

    def _hear(self, line: bytes) -> None:
        if self._in_data:
            if line == b".":
                self._in_data = False
                self._answer("message", b"250 2.0.0 taken")
        elif line == b"DATA":
            self._in_data = True
            self._answer("command", b"354 go")
        elif line == b"QUIT":
            self._transport.write(b"221 2.0.0 bye\r\n")
            self._transport.close()
        else:
            self._is_mail |= line.startswith(b"MAIL")
            self._answer("command", b"250 2.0.0 fine")

    def _answer(self, what: str, line: bytes) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(self._server.delay(what), self._say, line)

    def _say(self, line: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(line + b"\r\n")


async def _serve(host: str, port: int, server: Server) -> None:
    loop = asyncio.get_running_loop()
    ends = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ends.set)
    listener = await loop.create_server(partial(Session, server), host, port, backlog=_BACKLOG)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await ends.wait()
    listener.close()
    if server.open:
        await server.is_idle.wait()
    print(json.dumps(server.served), flush=True)


def main() -> None:
    """Parses and serves."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.2:0")
    parser.add_argument("--places", type=int, required=True, help="sessions at a time")
    for what in _DELAYED:
        parser.add_argument(f"--{what}", type=float, required=True, help="seconds it takes")
    options = parser.parse_args()
    delays = {what: getattr(options, what) for what in _DELAYED}
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    host, _, port = options.listen.rpartition(":")
    random = Random(25)  # noqa: S311 - the same delays in every run
    uvloop.run(_serve(host, int(port), Server(options.places, delays, random)))


if __name__ == "__main__":
    main()
