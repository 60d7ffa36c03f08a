"""A node's health in short: what it says, and what asking costs."""

import pytest
from msgspec import structs

from mailweir.admin import node_health
from mailweir.admin.digests import Digests
from mailweir.admin.node_health import Count, HealthReader, counted
from mailweir.config.agreed import agreement
from mailweir.spec import DesiredState, ServerKey, ServerState
from mailweir.state.desired import Health, fold
from mailweir.stats import Stats
from unit import figures
from unit.fakes import NOTHING_SAID, ROOM, config


class Node:
    """A process with clocks that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.readings = 0
        self.stats = figures.stats(3, False, 7, [])
        self.digests = Digests()
        self.health = HealthReader(
            self._read,
            self.digests,
            started=900.0,
            steady=lambda: self.now,
        )

    def _read(self) -> Stats:
        self.readings += 1
        return self.stats


@pytest.fixture
def node() -> Node:
    return Node()


def applied(text: str, *up: str) -> DesiredState:
    health = {ServerKey(*one.split("/")): Health.UP for one in up}
    return fold(config(text), health, NOTHING_SAID, hostname="h", room=ROOM)


_TWO_POOLS = """\
listeners: {mx: {bind: [192.0.2.1:25], pool: a}, old: {bind: [192.0.2.1:26], pool: b}}
pools:
  a: {servers: {x: 10.0.0.1:25, y: 10.0.0.2:25}}
  b: {servers: {z: 10.0.0.3:25}, panic: 0%}
  unused: {servers: {w: 10.0.0.4:25}}
"""


@pytest.mark.parametrize(
    ("up", "count"),
    [
        (("a/x", "a/y", "b/z"), Count(4, 3, {})),
        (("a/y", "unused/w"), Count(4, 2, {"b": "pool b: no server is up"})),
        ((), Count(4, 0, {one: f"pool {one}: no server is up" for one in "ab"})),
    ],
)
def test_servers_are_counted(up: tuple[str, ...], count: Count) -> None:
    assert counted(applied(_TWO_POOLS, *up)) == count


def test_servers_in_panic_are_not_up() -> None:
    panic = {ServerKey("a", "x"): Health.DOWN, ServerKey("a", "y"): Health.DOWN}
    state = fold(config(_TWO_POOLS), panic, NOTHING_SAID, hostname="h", room=ROOM)
    assert state.server_states()[ServerKey("a", "x")] is ServerState.PANIC
    assert list(counted(state).pools_down) == ["a", "b"]


def test_servers_that_take_no_new_sessions_are_not_up() -> None:
    text = _TWO_POOLS.replace("x: 10.0.0.1:25", "x: {address: 10.0.0.1:25, weight: 0}")
    state = applied(text, "a/x", "b/z")
    why = "pool a: no server takes new sessions: x has weight 0, y is in state down"
    assert counted(state) == Count(4, 1, {"a": why})


async def test_health_in_short(node: Node) -> None:
    node.digests.take(agreement(config()))
    node.stats = structs.replace(
        node.stats, kernel_path=figures.KERNEL_PATH, workers=figures.stuck(1)
    )
    found = node.health.read(applied(_TWO_POOLS, "a/x"), NOTHING_SAID, generation=7, ending=False)
    assert (found.started, found.listening, found.ending, found.generation) == (900, True, False, 7)
    assert (found.sessions, found.flows, found.workers_alive) == (7, 7, True)
    assert (found.servers, found.up, found.pools_down) == (4, 1, ["b"])
    assert found.reasons == ["pool b: no server is up"]
    assert found.digest == agreement(config()).digest.hex()
    assert len(found.digest) == 16


def test_nothing_moves_where_no_worker_does(node: Node) -> None:
    """For longer than the time between two readings: the machine may have stood still itself."""

    def reads() -> bool:
        node.now += 1
        found = node.health.read(applied(_TWO_POOLS), NOTHING_SAID, generation=1, ending=False)
        return found.workers_alive

    still, moving = (
        tuple(structs.replace(one, lag=lag) for one in node.stats.workers) for lag in (3.5, 0.1)
    )
    node.stats = structs.replace(node.stats, workers=still)
    assert [reads(), reads(), reads()] == [True, False, False]
    node.stats = structs.replace(node.stats, workers=(*still[:-1], moving[-1]))
    assert [reads(), reads()] == [True, True]


def test_health_of_one_that_ends_or_begins(node: Node) -> None:
    found = node.health.read(applied(_TWO_POOLS), NOTHING_SAID, generation=1, ending=True)
    assert (found.workers_alive, found.ending, found.flows) == (True, True, 0)
    assert found.reasons == ["draining: no new sessions are taken"]
    found = node.health.read(None, NOTHING_SAID, generation=0, ending=False)
    assert (found.listening, found.servers, found.pools_down) == (False, 0, [])
    assert found.reasons == ["starting: the listeners aren't open yet"]


def test_who_asks_often_costs_no_more(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[DesiredState] = []

    def counting(state: DesiredState) -> Count:
        counts.append(state)
        return counted(state)

    monkeypatch.setattr(node_health, "counted", counting)
    before, after = applied(_TWO_POOLS), applied(_TWO_POOLS, "a/x")
    for _ in range(100):
        node.health.read(before, NOTHING_SAID, generation=1, ending=False)
    assert (node.readings, len(counts)) == (1, 1)
    node.now += 1
    assert node.health.read(after, NOTHING_SAID, generation=1, ending=False).up == 1
    assert (node.readings, len(counts)) == (2, 2)
