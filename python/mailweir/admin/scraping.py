"""Answers scrapes of metrics, beside the event loop. Built by `routes`.

For thousands of servers a scrape takes longer than checks may be late. One at a time, in a lane of
its own, so that nobody's scrapes hold up what else is done in threads; one that is given up before
its turn costs nothing.
"""

import asyncio
import gzip
from collections.abc import Sequence
from functools import partial
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry

from mailweir.admin import exposition
from mailweir.admin.balancer import Balancer
from mailweir.admin.exposition import Table
from mailweir.admin.figures import FIGURES, SERVERS, Servers
from mailweir.admin.standing import STANDING
from mailweir.lanes import Lane
from mailweir.situation import Situation

# Of 1 to 9: the others take several times as long for a tenth less.
_LEVEL = 1


class Scraping:
    """The metrics of one registry, and those of the process as it is when it is asked."""

    def __init__(self, registry: CollectorRegistry, balancer: Balancer) -> None:
        self._registry = registry
        self._balancer = balancer
        self._lane = Lane("metrics")
        self._turn = asyncio.Lock()

    async def answer(self, request: web.Request) -> web.Response:
        """All metrics for Prometheus, compressed where the client takes that."""
        zipped = "gzip" in request.headers.get("Accept-Encoding", "")
        async with self._turn:
            # A scrape that was given up may be under way still.
            await self._lane.call(_nothing)
            # Here in the event loop, where nothing that it is made of changes meanwhile.
            now = self._balancer.situation(with_times=True)
            body = await self._lane.call(partial(_body, self._registry, now, zipped))
        headers = {"Content-Type": exposition.CONTENT_TYPE, "Vary": "Accept-Encoding"}
        if zipped:
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=body, headers=headers)


def tables(now: Situation) -> Sequence[Table[Any]]:
    """What there is to read of the process at one moment. Its servers are read once for all."""
    return [
        Table(FIGURES, lambda: now.stats),
        Table(SERVERS, lambda: Servers(now.stats.bounds, now.servers)),
        Table(STANDING, lambda: now),
    ]


def _nothing() -> None:
    """For the lane to be free."""


def _body(registry: CollectorRegistry, now: Situation, zipped: bool) -> bytes:
    body = exposition.encode(registry, *tables(now))
    return gzip.compress(body, _LEVEL, mtime=0) if zipped else body
