"""Calls in threads of their own: in order, each kind apart, and what hangs is left behind."""

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from mailweir.errors import StalledError
from mailweir.lanes import Lane


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hangs waits for it; at the end of the test it is open."""
    made = threading.Event()
    yield made
    made.set()


async def begun(found: list[int], number: int) -> None:
    async with asyncio.timeout(10):
        while len(found) < number:  # noqa: ASYNC110 - it is a thread that says so
            await asyncio.sleep(0.001)


async def test_calls_have_their_turn() -> None:
    lane, found = Lane("disk"), list[int]()
    await asyncio.gather(*(lane.call(partial(found.append, number)) for number in range(20)))
    assert found == list(range(20))


async def test_both_ends_of_a_manager_are_calls() -> None:
    ends = list[str]()

    @contextmanager
    def held() -> Iterator[int]:
        ends.append(threading.current_thread().name)
        yield 7
        ends.append(threading.current_thread().name)

    async with Lane("disk").entered(held(), limit=5, what="taking it") as found:
        assert (found, ends) == (7, ["disk"])
    assert ends == ["disk", "disk"]


async def test_a_manager_that_hangs_is_left_behind(gate: threading.Event) -> None:
    @contextmanager
    def hangs() -> Iterator[None]:
        gate.wait()
        yield

    with pytest.raises(StalledError, match=r"^taking it takes longer than 0\.05 s$"):
        async with Lane("disk").entered(hangs(), limit=0.05, what="taking it"):
            raise AssertionError("it isn't taken")


async def test_what_a_call_raises_is_raised() -> None:
    lane = Lane("disk")
    with pytest.raises(TimeoutError, match="its own"):
        await lane.call(partial(_fail, TimeoutError("its own")), limit=5)
    assert await lane.call(lambda: 7) == 7


def _fail(error: Exception) -> None:
    raise error


async def test_who_hangs_is_left_behind(gate: threading.Event) -> None:
    lane = Lane("disk", most_lost=2)
    for _ in range(2):
        with pytest.raises(StalledError, match=r"^reading f takes longer than 0\.3 s$"):
            await lane.call(gate.wait, limit=0.3, what="reading f")
    # As many hang as may: whoever comes now isn't kept waiting.
    with pytest.raises(StalledError, match="2 earlier calls hang"):
        await lane.call(lambda: 1)
    gate.set()
    async with asyncio.timeout(10):
        while True:
            try:
                assert await lane.call(lambda: 1) == 1
            except StalledError:
                await asyncio.sleep(0.001)
            else:
                break


async def test_who_gets_on_is_waited_for(gate: threading.Event) -> None:
    lane, looks = Lane("disk"), 0

    def moved() -> float:
        nonlocal looks
        looks += 1
        if looks == 5:
            gate.set()
        return time.monotonic()

    def work() -> str:
        gate.wait()
        return "read"

    assert await lane.call(work, limit=0.05, moved=moved) == "read"
    gate.clear()
    began = time.monotonic()
    with pytest.raises(StalledError):
        await lane.call(gate.wait, limit=0.05, moved=lambda: began)


async def test_the_next_call_does_not_hang_behind_it(gate: threading.Event) -> None:
    lane = Lane("disk")
    hanging = asyncio.create_task(lane.call(gate.wait, limit=0.05))
    behind = asyncio.create_task(lane.call(lambda: 1))
    with pytest.raises(StalledError):
        await hanging
    assert await behind == 1


async def test_who_is_given_up_is_not_begun(gate: threading.Event) -> None:
    lane, found = Lane("disk"), list[int]()
    first = asyncio.create_task(lane.call(gate.wait))
    others = [asyncio.create_task(lane.call(partial(found.append, n))) for n in range(50)]
    last = asyncio.create_task(lane.call(partial(found.append, 99)))
    await asyncio.sleep(0)
    for one in others:
        one.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    gate.set()
    assert await first
    await last
    assert found == [99]


async def test_a_wide_lane_has_so_many_at_a_time(gate: threading.Event) -> None:
    lane, found = Lane("names", width=3), list[int]()

    def hang(number: int) -> None:
        found.append(number)
        gate.wait()

    calls = [asyncio.create_task(lane.call(partial(hang, number))) for number in range(5)]
    await begun(found, 3)
    await asyncio.sleep(0.02)
    assert sorted(found) == [0, 1, 2]
    gate.set()
    await asyncio.gather(*calls)
    assert sorted(found) == list(range(5))


async def test_lanes_do_not_know_each_other(gate: threading.Event) -> None:
    asked = [asyncio.create_task(Lane("strangers", width=4).call(gate.wait)) for _ in range(40)]
    began = time.monotonic()
    assert await Lane("changes").call(lambda: 1) == 1
    assert time.monotonic() - began < 1
    gate.set()
    await asyncio.gather(*asked)


async def test_what_fails_is_freed_at_once() -> None:
    """Whatever the error's traceback leads to: a configuration that was read, say."""
    lane, freed = Lane("disk"), []

    class Large:
        def __del__(self) -> None:
            freed.append(True)

    def work() -> None:
        large = Large()
        raise ValueError(f"{large}")

    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises(ValueError, match="Large"):
                await lane.call(work)
        async with asyncio.timeout(10):
            while len(freed) < 3:  # noqa: ASYNC110 - it is a thread that lets go of the last one
                await asyncio.sleep(0.01)
    finally:
        gc.enable()
