"""How the process ends while its node has the addresses of a pair, and without that."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from mailweir import ending
from mailweir.ending import Terms, drain, lose
from mailweir.lanes import Lane
from mailweir.supervisor import Supervisor
from unit import figures
from unit.fakes import FakePlane


class Told(Supervisor):
    """A supervisor that keeps sockets; what became of them is noted."""

    def __init__(self) -> None:
        super().__init__({})
        self.kept: list[Sequence[object]] = []
        self.store.keep = lambda sockets: self.kept.append(list(sockets))  # type: ignore[method-assign]

    @property
    def is_there(self) -> bool:
        return True


def at_third_look(_told: Told, looks: int) -> bool:
    return looks == 3


def once_kept(told: Told, _looks: int) -> bool:
    return bool(told.kept)


def never(_told: Told, _looks: int) -> bool:
    return False


async def ended(
    plane: FakePlane, told: Told, terms: Terms, when: Callable[[Told, int], bool] = at_third_look
) -> None:
    """A process with one session drains, which ends when so much is told or at such a look: by no
    clock, since a machine may stand still for as long as it likes.
    """
    plane.active, looks = 1, 0

    def look() -> str:
        nonlocal looks
        looks += 1
        if when(told, looks):
            plane.active = 0
        return ""

    async with asyncio.timeout(30):
        await drain(plane, told, Lane("plane"), terms=terms, wake=asyncio.Event(), why_now=look)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_LOOK", 0.01)
    monkeypatch.setattr(ending, "_LATER", 0.05)


async def test_a_node_of_a_pair_leaves_its_clients_to_the_next_process() -> None:
    plane, told = FakePlane(), Told()
    await ended(plane, told, Terms(1800.0, 60.0))
    assert (plane.left_to_successor, plane.hurries, told.kept) == (True, True, [])


async def test_they_are_not_left_waiting_for_longer_than_a_handover() -> None:
    plane, told = FakePlane(), Told()
    await ended(plane, told, Terms(1800.0, 0.05), once_kept)
    assert (plane.left_to_successor, told.kept) == (True, [[]])


async def test_without_the_addresses_a_long_drain_refuses_at_once() -> None:
    plane, told = FakePlane(), Told()
    await ended(plane, told, Terms(1800.0, None))
    assert (plane.left_to_successor, plane.hurries, told.kept) == (False, False, [[]])


async def test_what_is_left_is_lost_when_the_addresses_move() -> None:
    plane, told = FakePlane(), Told()
    plane.live = [figures.SESSION]
    assert (await lose(plane, told, Lane("plane")), told.kept) == (1, [[]])


async def test_clients_wait_for_the_next_process_at_a_restart() -> None:
    """Whatever the deadline is; sessions leave where they can, and the others soon."""
    plane, told = FakePlane(), Told()
    await ended(plane, told, Terms(1800.0, None, restarts=True))
    assert (plane.left_to_successor, plane.hurries, told.kept) == (True, True, [])


async def test_a_restart_waits_for_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_SHORT", 0.05)
    plane, told = FakePlane(), Told()
    await ended(plane, told, Terms(1800.0, None, restarts=True), never)
    assert plane.active == 1


async def test_the_sessions_of_the_process_before_are_waited_for() -> None:
    plane, told = FakePlane(), Told()
    others = [2]
    asyncio.get_running_loop().call_later(0.05, others.clear)
    began = asyncio.get_running_loop().time()
    await drain(
        plane,
        told,
        Lane("plane"),
        terms=Terms(1800.0, None),
        wake=asyncio.Event(),
        why_now=lambda: "",
        before=lambda: sum(others),
    )
    assert asyncio.get_running_loop().time() - began >= 0.05
