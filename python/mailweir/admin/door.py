"""How many may be connected to an admin address at a time. Stands before aiohttp, which takes
all that come. Built by `server`.

Descriptors are sessions' first: who holds connections open, or sends and reads a byte now and
then, uses up a share that is his own. On TCP, where a share is an address's and nothing takes
long, a connection also ends after a while, whatever it does.
"""

import asyncio
import json
from collections.abc import Callable, Hashable
from typing import cast

from aiohttp import web

from mailweir.admin.refusals import Refusals, Why

# Of one address at a time; `descriptors` has them in reserve. No farm is watched by so many.
MOST = 256
# Of those one user's, or one client's: the others still find a place.
MOST_OF_PEER = 64

_BODY = json.dumps({"error": "too many connections are open here already; close some"}).encode()
# Not 503, which is what /readyz says where no server is up.
_FULL = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)

PeerOf = Callable[[asyncio.Transport], Hashable]


class Door:
    """Makes the connections of one address, as asyncio wants its protocols made."""

    def __init__(
        self,
        server: web.Server,
        refusals: Refusals,
        *,
        peer_of: PeerOf,
        name: str,
        always: frozenset[Hashable] = frozenset(),
        lifetime: float | None = None,
    ) -> None:
        """`always` are peers who find a place whatever others hold; `lifetime` is in seconds."""
        self.server = server
        self.lifetime = lifetime
        self.peer_of = peer_of
        self._refusals = refusals
        self._name = name
        self._always = always
        self._inside: set[_Connection] = set()

    def __call__(self) -> asyncio.Protocol:
        return _Connection(self)

    def enter(self, connection: "_Connection") -> bool:
        """Whether there is a place for it; it is counted until it leaves."""
        of_peer = sum(one.peer == connection.peer for one in self._inside)
        full = len(self._inside) >= MOST and connection.peer not in self._always
        if full or of_peer >= MOST_OF_PEER:
            self._refusals.note(Why.CONNECTIONS, self._name)
            return False
        self._inside.add(connection)
        return True

    def leave(self, connection: "_Connection") -> None:
        """Its descriptor is closed."""
        self._inside.discard(connection)

    def put_out(self, allowed: Callable[[asyncio.Transport], bool], *, after: float) -> None:
        """End those that aren't allowed any more, `after` so many seconds."""
        for one in self._inside:
            if not allowed(one.transport):
                asyncio.get_running_loop().call_later(after, one.transport.abort)


class _Connection(asyncio.Protocol):
    """Passes everything on to aiohttp, from its first moment to the end of its descriptor."""

    peer: Hashable
    transport: asyncio.Transport

    def __init__(self, door: Door) -> None:
        self._door = door
        self._handler = asyncio.Protocol()
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.peer = self._door.peer_of(self.transport)
        if not self._door.enter(self):
            self.transport.write(_FULL)
            self.transport.close()
            return
        if self._door.lifetime is not None:
            # Not `close`: that waits for a peer who doesn't read.
            loop = asyncio.get_running_loop()
            self._end = loop.call_later(self._door.lifetime, self.transport.abort)
        self._handler = self._door.server()
        self._handler.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.leave(self)
        if self._end is not None:
            self._end.cancel()
        self._handler.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()
