"""A node that dies or is told to go: how long the address is out, and who has it then.

Stamps of who has the address are the kernels'; clients begin 100 connections a second, so that what
they see is known to 10 ms.
"""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from harness.figures import Took
from harness.mailweir.run import Tree
from harness.networks.pair import NODES, Node
from harness.pair.outage import Gap, Outage, gap
from harness.pair.rig import Machine, Rig, other, pair_rig
from harness.scale import count
from harness.waiting import until
from mailweir.admin.client import ask

_RATE = 100.0
_CRASHES = count(1, 20)
_HAND_OVERS = count(1, 20)


@dataclass(frozen=True, order=True)
class Event:
    """One crash or hand-over."""

    took: float  # seconds, by which it is judged
    seen: Gap = field(compare=False)
    story: str = field(compare=False)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with pair_rig(tmp_path_factory.mktemp("pair")) as rig:
        yield rig


@pytest.fixture
def fast(rig: Rig) -> Iterator[Rig]:
    """The same, with short timers."""
    _change(rig, lambda ha: ha.update(timers="fast"))
    yield rig
    _change(rig, lambda ha: ha.pop("timers"))


def test_a_node_that_dies(rig: Rig, counted: Callable[[str], None]) -> None:
    crashes = [_crash(rig) for _ in range(_CRASHES)]
    took = Took([one.took for one in crashes])
    counted(f"crash: {took}")
    assert took.percentile(0.5) <= 2.2
    assert took.percentile(0.99) <= 2.6, max(crashes)


@pytest.mark.alone("the bound leaves a tenth of a second to the machine")
def test_a_node_that_dies_with_fast_timers(fast: Rig, counted: Callable[[str], None]) -> None:
    crashes = [_crash(fast) for _ in range(_CRASHES)]
    took = Took([one.took for one in crashes])
    counted(f"crash, fast: {took}")
    assert took.percentile(0.99) <= 0.6, max(crashes)


def test_a_switch_by_the_active_node(rig: Rig, counted: Callable[[str], None]) -> None:
    def switch(active: Machine, _peer: Machine) -> None:
        _switch(active)

    _hand_overs(rig, switch, "switch", counted)


def test_a_switch_that_the_other_node_asks_for(rig: Rig, counted: Callable[[str], None]) -> None:
    def claim(_active: Machine, peer: Machine) -> None:
        _switch(peer)

    _hand_overs(rig, claim, "claim", counted)


def test_the_end_of_the_process(rig: Rig, counted: Callable[[str], None]) -> None:
    """Its balancer goes on, and so do the sessions of the other node's clients."""

    def end(active: Machine, _peer: Machine) -> None:
        active.ha.send(signal.SIGTERM)
        assert active.ha.wait() == 0

    def again(active: Machine) -> None:
        active.start_ha()

    _hand_overs(rig, end, "SIGTERM", counted, again)


def _change(rig: Rig, edit: Callable[[Tree], object]) -> None:
    """In the files of both, until both go by it."""
    before = [_pair_digests(rig.machines[node]) for node in NODES]
    for node in NODES:
        rig.machines[node].change(edit)

    def agree() -> bool:
        own, peers = [_pair_digests(rig.machines[node]) for node in NODES]
        return own == peers != before[0] and len(set(own)) == 1

    assert before[0] == before[1]
    until(agree, "both nodes to have read their files again")


def _pair_digests(machine: Machine) -> list[str]:
    """Of the part `ha`, as a node has it and as it knows its peer's."""
    return [str(node["pair"]) for node in machine.status().get("nodes", [])]


def _crash(rig: Rig) -> Event:
    """The active node loses its power, and has it again afterwards; what clients saw of it."""
    active = rig.active()
    machine, peer = rig.machines[active], other(active)
    until(lambda: _knows_a_successor(machine), "the other node to be able to take over")
    with rig.clients(_RATE) as outage:
        event = time.monotonic()
        rig.networks.kill(active, machine.pids())
        seen = _moved(rig, event, peer, outage)
        story = _story(rig, event, peer)
    rig.networks.revive(active)
    machine.start_balancer()
    machine.start_ha()
    assert rig.active() == peer, "nobody prefers the node that came back"
    held = rig.holders.over(event)
    assert (held.moves, held.dual) == (1, 0), held
    assert set(seen.failures) == {"timeout"}, seen
    return Event(seen.gap, seen, story)


def _hand_overs(
    rig: Rig,
    order: Callable[[Machine, Machine], None],
    name: str,
    counted: Callable[[str], None],
    again: Callable[[Machine], None] = lambda _active: None,
) -> None:
    done = [_hand_over(rig, order, again) for _ in range(_HAND_OVERS)]
    out, since = Took([one.took for one in done]), Took([one.seen.gap for one in done])
    counted(f"{name}: out {out}; since it was told {since}")
    assert out.percentile(0.99) <= 0.25, max(done)


def _hand_over(
    rig: Rig, order: Callable[[Machine, Machine], None], again: Callable[[Machine], None]
) -> Event:
    active = rig.active()
    machine, peer = rig.machines[active], rig.machines[other(active)]
    until(lambda: _knows_a_successor(machine), "the other node to be able to take over")
    with rig.clients(_RATE) as outage:
        event = time.monotonic()
        order(machine, peer)
        seen = _moved(rig, event, peer.name, outage)
    story = _story(rig, event, peer.name)
    assert set(seen.failures) <= {"timeout"}, f"refused or reset: {seen}"
    assert peer.status()["why"] == f"{active} released the addresses"
    again(machine)
    assert rig.active() == peer.name
    held = rig.holders.over(event)
    assert (held.moves, held.dual) == (1, 0), held
    return Event(seen.out, seen, story)


def _story(rig: Rig, event: float, node: Node) -> str:
    """For a run that took too long: who had the address, and what this node did."""
    changes = [(f"{one.at - event:.3f}", *one.nodes) for one in rig.holders.over(event).changes]
    return f"{changes} {rig.machines[node].events()[-12:]}"


def _knows_a_successor(active: Machine) -> bool:
    """Whether it has heard of its peer that nothing is against a switch. One that has just started
    may have no balancer yet.
    """
    _own, peer = active.status()["nodes"]
    able = {"dataplane_ok", "gateway_ok", "carrier_ok"} <= set(peer["flags"])
    return peer["state"] == "backup" and able


def _switch(machine: Machine) -> None:
    """At its socket: a command line takes longer to start than the rest of it all."""
    answer = ask(str(machine.folder / "ha.sock"), "POST", "/api/v1/switch")
    assert "error" not in answer, answer


def _moved(rig: Rig, event: float, to: Node, outage: Outage) -> Gap:
    """What clients saw until they were greeted again by the other node."""
    until(lambda: rig.holders.only == to, f"{to} to have the address")
    outage.until_steady(time.monotonic())
    return gap(outage.attempts(), event)
