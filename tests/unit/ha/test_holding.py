"""Holding: one step after the other, and a lease that is never renewed too late."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from mailweir.ha import holding
from mailweir.ha.holding import Holding
from mailweir.ha.kernel.addresses import AddressError, Addresses
from mailweir.ha.kernel.announce import Announcer
from mailweir.ha.machine.facts import Drop, Take

LEASE = 3.0


class Noted(list[object]):
    """Wakes whoever waits for news."""

    def __init__(self, news: asyncio.Event) -> None:
        super().__init__()
        self._news = news

    def append(self, one: object) -> None:
        super().append(one)
        self._news.set()


class Kernel:
    """The kernel's part, and a clock that a test moves."""

    def __init__(self, done: Noted) -> None:
        self.done = done
        self.problem = ""
        self.now = 0.0

    async def add(self) -> None:
        await self._do("add")

    async def renew(self) -> None:
        await self._do("renew")

    async def remove(self) -> None:
        await self._do("remove")

    def stop(self) -> None:
        self.done.append("quiet")

    async def _do(self, what: str) -> None:
        self.done.append(what)
        if self.problem:
            raise AddressError(self.problem)


class Rig:
    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.kernel = Kernel(Noted(self.news))
        self.told = Noted(self.news)
        self.holding = Holding(
            cast(Addresses, self.kernel),
            cast(Announcer, self.kernel),
            lease=LEASE,
            on_taken=lambda ticket: self.told.append(("taken", ticket)),
            on_dropped=lambda ticket: self.told.append(("dropped", ticket)),
            on_failed=self.told.append,
            before_drop=self.before_drop,
            before_renewal=lambda: self.before_renewal(),
        )
        self.before_renewal: Callable[[], None] = lambda: None

    async def before_drop(self) -> None:
        self.kernel.done.append("move")

    async def until(self, condition: Callable[[], bool]) -> None:
        work = asyncio.create_task(self.holding.work())
        try:
            async with asyncio.timeout(10):
                while not condition():
                    self.news.clear()
                    await self.news.wait()
        finally:
            work.cancel()


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    made = Rig()
    monkeypatch.setattr(holding, "now", lambda: made.kernel.now)
    return made


async def test_taken_and_dropped(rig: Rig) -> None:
    rig.holding.do(Take(1))
    rig.holding.do(Drop(2))
    await rig.until(lambda: len(rig.told) == 2)
    assert rig.told == [("taken", 1), ("dropped", 2)]
    # The neighbours are told nothing any more from the moment on that it is wanted.
    assert rig.kernel.done == ["quiet", "add", "move", "remove"]


async def test_the_lease_is_renewed(rig: Rig) -> None:
    rig.holding.do(Take(1))
    await rig.until(lambda: rig.told == [("taken", 1)])
    rig.kernel.now = 1.0
    await rig.until(lambda: rig.kernel.done == ["add", "renew"])
    rig.kernel.now = 2.0
    await rig.until(lambda: rig.kernel.done == ["add", "renew", "renew"])


async def test_what_may_be_over_is_not_renewed(rig: Rig) -> None:
    rig.holding.do(Take(1))
    await rig.until(lambda: rig.told == [("taken", 1)])
    rig.kernel.now = LEASE - 0.05
    await rig.until(lambda: len(rig.told) == 2)
    assert rig.told[1] == "the lease of the addresses wasn't renewed in time"
    assert rig.kernel.done == ["add"]


async def test_a_step_comes_before_a_renewal(rig: Rig) -> None:
    rig.holding.do(Take(1))
    await rig.until(lambda: rig.told == [("taken", 1)])
    rig.kernel.now = 1.0
    rig.holding.do(Drop(2))
    await rig.until(lambda: len(rig.told) == 2)
    assert rig.kernel.done == ["add", "quiet", "move", "remove"]


async def test_what_is_to_be_dropped_is_not_renewed(rig: Rig) -> None:
    rig.holding.do(Take(1))
    await rig.until(lambda: rig.told == [("taken", 1)])
    rig.before_renewal = lambda: rig.holding.do(Drop(2))
    rig.kernel.now = 1.0
    await rig.until(lambda: len(rig.told) == 2)
    assert rig.kernel.done == ["add", "quiet", "move", "remove"]


@pytest.mark.parametrize("later", [False, True])
async def test_a_kernel_that_refuses(rig: Rig, later: bool) -> None:
    rig.holding.do(Take(1))
    if later:
        await rig.until(lambda: rig.told == [("taken", 1)])
        rig.kernel.now = 1.0
    rig.kernel.problem = "192.0.2.10 can't be added"
    await rig.until(lambda: rig.told[-1:] == ["192.0.2.10 can't be added"])


async def test_a_kernel_that_does_not_take_them(rig: Rig) -> None:
    rig.kernel.problem = "192.0.2.10 can't be taken from eth0"
    rig.holding.do(Drop(1))
    await rig.until(lambda: "remove" in rig.kernel.done)
    # Nobody is told that they are gone; what is asked next is done.
    rig.kernel.problem = ""
    rig.holding.do(Take(2))
    await rig.until(lambda: rig.told == [("taken", 2)])
