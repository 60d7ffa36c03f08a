"""The events of the journal: as one answer, or as a stream that goes on (WHATWG's
text/event-stream, with Last-Event-ID). On the UNIX socket alone. Built by `routes`.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from aiohttp import web

from mailweir.journal import Event, Journal

# Between signs of life, in seconds: a reader that has gone is noticed by them.
_PING = 15.0
# Of streams at a time; each is a connection and a task.
_MOST = 32
_ID_DIGITS = 15


class _Following:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._streams = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """What happened lately: events whose `id` is above `since`. With `Accept:
        text/event-stream` a stream that goes on, from `Last-Event-ID`.
        """
        wants_stream = "text/event-stream" in request.headers.get("Accept", "")
        after = request.headers.get("Last-Event-ID", request.query.get("since", "0"))
        if not (after.isascii() and after.isdigit() and len(after) <= _ID_DIGITS):
            return web.json_response(
                {"error": f"since: {after[:40]!r} is no event's id"}, status=400
            )
        if not wants_stream:
            found = self._journal.since(int(after))
            return web.json_response(
                {"events": found, "missed": self._journal.missed(int(after), found)}
            )
        if self._streams >= _MOST:
            return web.json_response({"error": f"{_MOST} follow already"}, status=429)
        self._streams += 1
        try:
            return await self._stream(request, int(after))
        finally:
            self._streams -= 1

    async def _stream(self, request: web.Request, after: int) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        with suppress(ConnectionError):
            async with aclosing(_with_pings(self._journal, after)) as parts:
                async for part in parts:
                    await response.write(part)
        return response


def add_following(app: web.Application, journal: Journal) -> None:
    """Let `app` show events."""
    app.router.add_get("/api/v1/events", _Following(journal).answer)


async def _with_pings(journal: Journal, after: int) -> AsyncGenerator[bytes, None]:
    async with aclosing(journal.follow(after)) as pieces:
        coming = asyncio.ensure_future(anext(pieces))
        try:
            while True:
                done, _ = await asyncio.wait({coming}, timeout=_PING)
                if not done:
                    yield b": ping\n\n"
                    continue
                found = coming.result()
                if lost := journal.missed(after, found):
                    yield f": {lost} events are missing here\n\n".encode()
                after = found[-1]["id"]
                yield b"".join(map(_part, found))
                coming = asyncio.ensure_future(anext(pieces))
        finally:
            coming.cancel()
            with suppress(asyncio.CancelledError):
                await coming


def _part(event: Event) -> bytes:
    return f"id: {event['id']}\ndata: {json.dumps(event)}\n\n".encode()
