"""A process that is every server: at one port, each at an address of its own. Started by `run`.

It prints the port. At TERM it prints what it counted: how many sessions there were, and how long
servers waited from the end of one to the begin of the next, in seconds.
"""

import asyncio
import json
import resource
import signal
import time
from typing import cast

import uvloop

_BACKLOG = 4096
_EHLO = b"250-farm.test\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-STARTTLS\r\n250 8BITMIME\r\n"


class Counted:
    """Of all servers. Only between the signals USR1 and USR2."""

    def __init__(self) -> None:
        self.is_on = False
        self.sessions = 0
        self.waits: list[float] = []
        self._ended: dict[str, float] = {}

    def begin(self, server: str) -> None:
        """Somebody came."""
        ended = self._ended.get(server)
        if self.is_on:
            self.sessions += 1
            if ended is not None:
                self.waits.append(time.monotonic() - ended)

    def end(self, server: str) -> None:
        """The session is over."""
        self._ended[server] = time.monotonic()

    def switch(self, is_on: bool) -> None:
        """Count, or don't."""
        self.is_on = is_on


class Session(asyncio.Protocol):
    """One client. It knows as much SMTP as a check."""

    def __init__(self, counted: Counted) -> None:
        self._counted = counted
        self._server = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports aren't of this class, and have all of it.
        self._transport = cast(asyncio.Transport, transport)
        self._server = transport.get_extra_info("sockname")[0]
        self._counted.begin(self._server)
        self._transport.write(b"220 farm.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"QUIT"):
            self._transport.write(b"221 bye\r\n")
            self._transport.close()
        else:
            self._transport.write(_EHLO)

    def connection_lost(self, _: Exception | None) -> None:
        self._counted.end(self._server)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    ends = asyncio.Event()
    counted = Counted()
    loop.add_signal_handler(signal.SIGTERM, ends.set)
    loop.add_signal_handler(signal.SIGUSR1, counted.switch, True)
    loop.add_signal_handler(signal.SIGUSR2, counted.switch, False)
    where = ("0.0.0.0", 0)  # noqa: S104 - all addresses of loopback
    listener = await loop.create_server(lambda: Session(counted), *where, backlog=_BACKLOG)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await ends.wait()
    print(json.dumps({"sessions": counted.sessions, "waits": counted.waits}), flush=True)


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(_serve())
