"""Several checks of one server: what each decides, what is kept of it, and how many at a time."""

import asyncio
from dataclasses import replace
from ipaddress import ip_address

import pytest

from mailweir.config.check_keys import Check
from mailweir.config.words import CheckKind, Decides, Initial, Proxy
from mailweir.health.budget import APART, AT_A_TIME, Budget
from mailweir.health.check import Outcome
from mailweir.health.monitor import KEPT
from mailweir.health.probes.dial import Learned
from mailweir.health.target import CheckKey, Speech, Target
from mailweir.spec import ServerState
from mailweir.state.desired import Health, Wish
from unit.health.monitored import OF_A, A, World, monitoring, settle, target

FURTHER = CheckKey(A, "further")
ONCE = Check(rise=1, fall=1, initial=Initial.UP)


def further(decides: Decides = Decides.STATE, kind: CheckKind = CheckKind.RCPT) -> Target:
    return replace(target(2, ONCE), decides=decides, kind=kind)


@pytest.mark.parametrize(
    ("decides", "health"), [(Decides.STATE, Health.DOWN), (Decides.ALARM, Health.UP)]
)
async def test_what_a_further_check_decides(decides: Decides, health: Health) -> None:
    world = World(up={2: False})
    async with monitoring(world) as monitor:
        monitor.update({OF_A: target(1), FURTHER: further(decides)})
        await monitor.first_results()
        await settle()
        assert monitor.health() == {A: health}
        assert [check.alarm for check in monitor.checks(A)] == ["", "connect: refused"]
        world.up = {}
        await world.tick()
        assert monitor.health() == {A: Health.UP}
        assert [check.alarm for check in monitor.checks(A)] == ["", ""]


async def test_a_check_that_is_added_takes_no_server_out() -> None:
    world = World()
    async with monitoring(world) as monitor:
        monitor.update({OF_A: target(1)})
        await monitor.first_results()
        world.gate.clear()
        monitor.update({OF_A: target(1), FURTHER: further()})
        await settle()
        assert monitor.health() == {A: Health.UP}
        await monitor.first_results()  # nobody waits for it
        world.gate.set()


async def test_the_last_results_are_kept() -> None:
    world = World()
    async with monitoring(world) as monitor:
        monitor.update({OF_A: target(1)})
        await monitor.first_results()
        for _ in range(KEPT + 5):
            await world.tick()
        world.up = {1: False}
        await world.tick()
        [check] = monitor.checks(A)
    assert [one.ok for one in check.results] == [True] * (KEPT - 1) + [False]


async def test_what_is_under_way_comes_to_its_end_and_does_not_count() -> None:
    """Of a server that isn't checked any more: cut off, it would be a line in that one's log."""
    world = World()
    async with monitoring(world) as monitor:
        monitor.update({OF_A: target(1)})
        await monitor.first_results()
        world.gate.clear()
        await world.tick()
        assert world.running == 1
        monitor.update({})
        await settle()
        assert world.running == 1
        world.gate.set()
        await settle()
        assert world.running == 0
        assert len(world.results) == 1


async def test_an_agent_counts_at_once_and_its_absence_not_at_all() -> None:
    said = ["drain 50% maxconn:3", "down#disk", "", "ready up"]

    class Agents(World):
        async def probe(self, target: Target) -> Outcome:
            if target.kind is not CheckKind.AGENT:
                return await super().probe(target)
            line = said.pop(0)
            learned = Learned(agent=line)
            return Outcome(Health.UP, "", "", 0.0, 0.0, conclusive=bool(line), learned=learned)

    world = Agents()
    async with monitoring(world) as monitor:
        monitor.update({OF_A: target(1), FURTHER: further(kind=CheckKind.AGENT)})
        await monitor.first_results()
        await settle()
        wish = Wish(ServerState.DRAIN, 0.5, 3)
        assert (monitor.health(), monitor.wishes()) == ({A: Health.UP}, {A: wish})
        for health in (Health.DOWN, Health.DOWN):
            await world.tick()
            assert (monitor.health(), monitor.wishes()) == ({A: health}, {A: wish})
        await world.tick()
        assert monitor.health() == {A: Health.UP}
        assert monitor.wishes() == {A: replace(wish, state=None)}
        weighs = further(Decides.WEIGHT, CheckKind.AGENT)
        said.append("drain down 25%")
        world.now += 1.0
        monitor.update({OF_A: target(1), FURTHER: weighs})
        await settle()
        assert (monitor.health(), monitor.wishes()) == ({A: Health.UP}, {A: Wish(share=0.25)})


class _Agents(World):
    """Each agent says one thing for ever; nothing once it is `silent`."""

    def __init__(self, words: dict[int, str]) -> None:
        super().__init__()
        self.words = words
        self.silent = False

    async def probe(self, target: Target) -> Outcome:
        if target.kind is not CheckKind.AGENT:
            return await super().probe(target)
        line = "" if self.silent else self.words[target.address.port]
        learned = Learned(agent=line)
        return Outcome(Health.UP, "", "", 0.0, 0.0, conclusive=bool(line), learned=learned)


async def test_the_stricter_of_two_agents_counts() -> None:
    agent = further(kind=CheckKind.AGENT)
    other = replace(agent, address=target(3).address)
    keys = (FURTHER, CheckKey(A, "other"))
    world = _Agents({2: "maint 50% maxconn:9", 3: "drain 75% maxconn:3"})
    for order in (keys, keys[::-1]):
        async with monitoring(world) as monitor:
            monitor.update({OF_A: target(1)} | dict(zip(order, (agent, other), strict=True)))
            await monitor.first_results()
            await settle()
            assert monitor.wishes() == {A: Wish(ServerState.MAINT, 0.5, 3)}


async def test_what_an_agent_said_outlives_another_way_to_tell_the_server_of_clients() -> None:
    agent = further(kind=CheckKind.AGENT)
    world = _Agents({2: "maint"})
    async with monitoring(world) as monitor:
        monitor.update({OF_A: target(1), FURTHER: agent})
        await monitor.first_results()
        await settle()
        world.silent = True
        for changed in ({"proxy": Proxy.V2}, {"speech": Speech.SMTPS}):
            agent = replace(agent, **changed)
            monitor.update({OF_A: target(1), FURTHER: agent})
            await settle()
            assert monitor.wishes() == {A: Wish(ServerState.MAINT)}


async def test_a_host_has_a_budget_and_this_machine_none() -> None:
    now, began = 0.0, list[float]()
    budget = Budget(lambda: now)
    host, own = ip_address("10.0.0.1"), ip_address("127.0.0.1")
    let_go = asyncio.Event()

    async def check(of: object) -> None:
        assert of in (host, own)
        async with budget.turn(host if of == host else own):
            began.append(asyncio.get_running_loop().time())
            await let_go.wait()

    tasks = [asyncio.create_task(check(host)) for _ in range(2 * AT_A_TIME)]
    async with asyncio.timeout(20):
        while len(began) < AT_A_TIME:  # noqa: ASYNC110 - it has no event of its own
            await asyncio.sleep(0.01)
    await asyncio.sleep(2 * APART)
    assert len(began) == AT_A_TIME
    assert began[-1] - began[0] >= (AT_A_TIME - 1) * APART * 0.9
    ours = [asyncio.create_task(check(own)) for _ in range(2 * AT_A_TIME)]
    await asyncio.sleep(0)
    assert len(began) == 3 * AT_A_TIME
    let_go.set()
    await asyncio.gather(*tasks, *ours)
    budget.keep(set())
