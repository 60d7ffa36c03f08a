"""The schedule: first checks at once, jitter, identity across updates, bounded concurrency."""

import asyncio
from random import Random

from mailweir.config.check_keys import Check
from mailweir.config.model import MAIN_CHECK
from mailweir.faults import FaultPart, Faults
from mailweir.health.check import Outcome
from mailweir.health.monitor import JITTER, MAX_CHECKS, Monitor
from mailweir.health.target import CheckKey, Target
from mailweir.spec import ServerKey
from mailweir.state.desired import Health
from unit.health.monitored import OF_A, OF_B, A, B, World, monitoring, settle, target


async def test_first_results_come_at_once_and_decide() -> None:
    world = World(up={2: False})
    async with monitoring(world) as monitor:
        monitor.update({OF_A: target(1), OF_B: target(2)})
        assert monitor.health() == {A: Health.UNKNOWN, B: Health.UNKNOWN}
        assert not monitor.checks(A)[0].results
        await monitor.first_results()
        assert monitor.health() == {A: Health.UP, B: Health.DOWN}
        assert monitor.checks(B)[0].results[-1].detail == "refused"


async def test_first_results_wait_for_the_last() -> None:
    world = World()
    async with monitoring(world) as monitor:
        world.gate.clear()
        monitor.update({OF_A: target(1)})
        waiting = asyncio.create_task(monitor.first_results())
        await settle()
        assert not waiting.done()
        world.gate.set()
        await waiting


async def test_a_pool_is_known_by_one_of_its_servers() -> None:
    world = World()
    async with monitoring(world) as monitor:
        monitor.update({OF_A: target(1)})
        await monitor.first_results()
        world.gate.clear()
        other = ServerKey("other", "c")
        monitor.update({OF_A: target(1), OF_B: target(2), CheckKey(other, MAIN_CHECK): target(3)})
        waiting = asyncio.create_task(monitor.first_of_each_pool())
        await settle()
        assert not waiting.done()
        monitor.update({OF_A: target(1), OF_B: target(2)})
        await waiting


async def test_a_check_that_could_not_be_made_changes_nothing() -> None:
    world = World()
    async with monitoring(world) as monitor:
        monitor.update({OF_A: target(1)})
        await monitor.first_results()
        world.up, world.conclusive = {1: False}, False
        for _ in range(10):
            await world.tick()
        assert monitor.health() == {A: Health.UP}
        assert monitor.checks(A)[0].results[-1].detail == "refused"
        world.conclusive = True
        for _ in range(3):
            await world.tick()
        assert monitor.health() == {A: Health.DOWN}


async def test_a_bug_costs_one_check_and_not_the_others() -> None:
    faults, checked = Faults(), list[int]()

    async def probe(target: Target) -> Outcome:
        checked.append(target.address.port)
        raise RuntimeError("bug")

    monitor = Monitor(
        probe=probe,
        on_result=lambda _: None,
        random=Random(1),  # noqa: S311 - the same spread in every run
        faults=faults,
        later=lambda _, what: asyncio.get_running_loop().call_soon(what),
    )
    monitor.update({OF_A: target(1)})
    async with asyncio.timeout(10):
        while len(checked) < 3:  # noqa: ASYNC110 - the probe has no event of its own
            await asyncio.sleep(0)
    await monitor.close()
    assert faults.times(FaultPart.CHECK) >= 2


async def test_nothing_to_check_is_nothing_to_wait_for() -> None:
    async with monitoring(World()) as monitor:
        monitor.update({})
        await monitor.first_results()


async def test_the_second_check_is_spread_and_later_ones_jitter() -> None:
    world = World()
    async with monitoring(world) as monitor:
        monitor.update(
            {CheckKey(ServerKey("farm", str(i)), MAIN_CHECK): target(i + 1) for i in range(50)}
        )
        await monitor.first_results()
        await settle()
        first = list(world.pauses)
        await world.tick()
        later = world.pauses[50:]
    assert min(first) < 2
    assert 8 < max(first) <= 10
    assert len(later) == 50
    assert all(10 * (1 - JITTER) <= pause <= 10 * (1 + JITTER) for pause in later)
    assert max(later) - min(later) > 2


async def test_a_pending_change_is_looked_at_fast() -> None:
    world = World()
    async with monitoring(world) as monitor:
        monitor.update({OF_A: target(1)})
        await monitor.first_results()
        await settle()
        world.up[1] = False
        for _ in range(2):
            await world.tick()
            assert monitor.health()[A] is Health.UP
            assert world.pauses[-1] <= 2 * (1 + JITTER)
        await world.tick()
        assert monitor.health()[A] is Health.DOWN
        assert world.pauses[-1] >= 10 * (1 - JITTER)
    assert [(r.before, r.after) for r in world.results][-1] == (Health.UP, Health.DOWN)


async def test_what_is_known_survives_an_update() -> None:
    world = World()
    async with monitoring(world) as monitor:
        monitor.update({OF_A: target(1)})
        await monitor.first_results()
        monitor.update({OF_A: target(1), OF_B: target(2)})
        assert monitor.health() == {A: Health.UP, B: Health.UNKNOWN}
        await monitor.first_results()
        monitor.update({OF_B: target(2)})
        assert monitor.health() == {B: Health.UP}
        assert len(world.results) == 2


async def test_a_changed_address_keeps_health_until_its_first_result() -> None:
    world = World(up={2: False})
    async with monitoring(world) as monitor:
        monitor.update({OF_A: target(1)})
        await monitor.first_results()
        world.gate.clear()
        monitor.update({OF_A: target(2)})
        await monitor.first_results()
        assert monitor.health() == {A: Health.UP}
        world.gate.set()
        await settle()
        assert monitor.health() == {A: Health.DOWN}


async def test_a_changed_pace_forgets_nothing() -> None:
    world = World()
    async with monitoring(world) as monitor:
        monitor.update({OF_A: target(1)})
        await monitor.first_results()
        world.up[1] = False
        monitor.update({OF_A: target(1, Check.model_validate({"every": "1s"}))})
        await settle()
        assert monitor.health() == {A: Health.UP}
        assert monitor.health() == {A: Health.UP}


async def test_a_removed_server_is_not_asked_again() -> None:
    world = World()
    async with monitoring(world) as monitor:
        world.gate.clear()
        monitor.update({OF_A: target(1)})
        await settle()
        monitor.update({})
        world.gate.set()
        await settle()
    assert world.results == []


async def test_checks_are_bounded() -> None:
    world = World()
    async with monitoring(world) as monitor:
        world.gate.clear()
        keys = [CheckKey(ServerKey("farm", str(i)), MAIN_CHECK) for i in range(MAX_CHECKS + 20)]
        monitor.update({key: target(i + 1) for i, key in enumerate(keys)})
        await settle()
        assert world.running == MAX_CHECKS
        world.gate.set()
        await monitor.first_results()
    assert world.most == MAX_CHECKS
    assert len(world.results) == len(keys)


async def test_a_server_in_doubt_is_checked_at_once_and_not_hammered() -> None:
    world = World()
    async with monitoring(world) as monitor:
        monitor.update({OF_A: target(1)})
        await monitor.first_results()
        await settle()
        monitor.hurry(A)  # it was checked just now
        monitor.hurry(B)  # it isn't there
        await settle()
        assert len(world.results) == 1
        world.now += 2.0
        for _ in range(100):
            monitor.hurry(A)
            await settle()
        assert len(world.results) == 2


async def test_a_check_that_waits_is_no_task() -> None:
    """There are thousands of them, and each task is looked through for garbage again and again."""
    world = World()
    async with monitoring(world) as monitor:
        monitor.update({OF_A: target(1), OF_B: target(2)})
        await monitor.first_results()
        await settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert len(world.waiting) == 2
        monitor.update({OF_A: target(1)})
        assert [one.is_over for one in world.waiting] == [False, True]


async def test_a_node_that_stands_by_checks_more_slowly() -> None:
    """What is about to change is looked at as soon as ever."""
    world = World()
    async with monitoring(world) as monitor:
        monitor.update({OF_A: target(1)})
        await monitor.first_results()
        monitor.slow_down(5)
        await world.tick()
        assert 50 * (1 - JITTER) <= world.pauses[-1] <= 50 * (1 + JITTER)
        world.up[1] = False
        await world.tick()
        assert world.pauses[-1] <= 2 * (1 + JITTER)


async def test_a_node_whose_turn_comes_asks_all_servers_at_once() -> None:
    """And holds on to what it knew until they answer."""
    world = World()
    async with monitoring(world) as monitor:
        keys = [CheckKey(ServerKey("farm", str(i)), MAIN_CHECK) for i in range(100)]
        monitor.update({key: target(i + 1) for i, key in enumerate(keys)})
        await monitor.first_results()
        monitor.slow_down(5)
        await world.tick()
        done, pauses = len(world.results), len(world.pauses)
        monitor.slow_down(1)
        assert len(world.pauses) == pauses + 100
        assert 0.8 < max(world.pauses[pauses:]) <= 1
        assert min(world.pauses[pauses:]) < 0.2
        assert set(monitor.health().values()) == {Health.UP}
        await world.tick()
        assert len(world.results) == done + 100
        assert min(world.pauses[-100:]) >= 10 * (1 - JITTER)
        # Told once more, nothing happens.
        monitor.slow_down(1)
        assert len(world.pauses) == pauses + 200
