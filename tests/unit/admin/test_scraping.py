"""Scrapes in their turn."""

import asyncio
import threading
from collections.abc import Iterator

from aiohttp.test_utils import make_mocked_request
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mailweir.admin.scraping import Scraping
from mailweir.situation import Situation
from unit.admin.situations import FakeBalancer


class _Counting(FakeBalancer):
    """It counts how often it was looked at."""

    readings = 0

    def situation(self, *, with_times: bool = False) -> Situation:
        self.readings += 1
        return super().situation(with_times=with_times)


class _Slow(Collector):
    """It takes until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        self.begun.set()
        assert self.go.wait(30)
        return iter(())


async def test_scrapes_that_are_given_up_before_their_turn_cost_no_reading() -> None:
    registry, slow, balancer = CollectorRegistry(), _Slow(), _Counting()
    registry.register(slow)
    scraping = Scraping(registry, balancer)

    def asked() -> asyncio.Task[object]:
        return asyncio.ensure_future(scraping.answer(make_mocked_request("GET", "/metrics")))

    given_up = [asked() for _ in range(5)]
    await asyncio.to_thread(slow.begun.wait, 30)
    for one in given_up:
        one.cancel()
    last = asked()
    await asyncio.gather(*given_up, return_exceptions=True)
    assert balancer.readings == 1
    slow.go.set()
    await last
    assert balancer.readings == 2
