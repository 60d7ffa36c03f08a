"""A pair whose cables and datagrams are lost: who has the address, and what is said of it.

The rule behind all of these: what a node can't hear proves nothing, so before it takes over it
looks whether somebody still has the address.
"""

import time
from collections.abc import Callable, Iterator

import pytest

from harness.figures import Took
from harness.networks.pair import DEVICES, NODES, Link, Node
from harness.pair.configuration import HEARTBEATS
from harness.pair.outage import gap
from harness.pair.rig import Machine, Rig, other
from harness.scale import count
from harness.waiting import until

_RATE = 100.0
_RUNS = count(1, 20)
_INTERVAL = 0.2  # of heartbeats; seconds
# Seconds in which nothing may happen, once the peer is silent: a node that may take over looks
# about five times a second whether it can.
_QUIET = count(1.0, 30.0)
_DATAGRAMS = f"udp dport {HEARTBEATS}"


@pytest.fixture
def rig(pair: Rig) -> Iterator[Rig]:
    """With every link as it should be, before and after."""
    _until_links_are_heard(pair)
    yield pair
    pair.networks.lose_nothing()
    for node in NODES:
        for link in DEVICES:
            pair.networks.plug(node, link)


def test_the_cable_of_the_address_is_out(rig: Rig, counted: Callable[[str], None]) -> None:
    taken, outs = [], []
    for _ in range(_RUNS):
        active = rig.active()
        machine, peer = rig.machines[active], rig.machines[other(active)]
        with rig.clients(_RATE) as outage:
            event = time.monotonic()
            rig.networks.unplug(active, "lan")
            _until_has_it(rig, peer)
            outage.until_steady(time.monotonic())
            outs.append(gap(outage.attempts(), event).gap)
        held = rig.holders.over(event)
        taken.append(held.changes[-1].at - event)
        assert (held.moves, held.dual) == (1, 0), held
        assert machine.state() == "fault"
        assert "eth0 has no carrier" in machine.explain()
        assert peer.status()["why"] == f"{active} released the addresses (it has no carrier)"
        rig.networks.plug(active, "lan")
        assert rig.active() == peer.name
        _until_links_are_heard(rig)
    counted(f"the other one has it: {Took(taken)}; clients: {Took(outs)}")
    assert Took(taken).percentile(0.99) <= 0.5


@pytest.mark.parametrize("link", DEVICES)
def test_one_link_is_silent(rig: Rig, link: Link) -> None:
    """For heartbeats; `cross` has nothing else."""
    active, event = rig.active(), time.monotonic()
    for sender, receiver in (("a", "b"), ("b", "a")):
        rig.networks.lose(sender, receiver, _DATAGRAMS, link=link)
    for machine in rig.machines.values():
        peer = other(machine.name)
        _until_alarm(machine, f"nothing is heard of {peer} on link {link}")
        assert f"nothing is heard of {peer} on any link" not in machine.alarms()
    _stays(rig, active, event)
    rig.networks.lose_nothing()
    _until_links_are_heard(rig)
    _stays(rig, active, event)


def test_the_cross_cable_is_out(rig: Rig) -> None:
    active, event = rig.active(), time.monotonic()
    rig.networks.unplug("a", "cross")
    for machine in rig.machines.values():
        _until_alarm(machine, f"nothing is heard of {other(machine.name)} on link cross")
    rig.networks.plug("a", "cross")
    _until_links_are_heard(rig)
    _stays(rig, active, event)


def test_nothing_comes_from_the_active_node(rig: Rig, counted: Callable[[str], None]) -> None:
    """Not its answers for the address either: the other one takes it, and the first one hears so
    and lets go.
    """
    both, gaps = [], []
    for _ in range(_RUNS):
        active = rig.active()
        machine, peer = rig.machines[active], rig.machines[other(active)]
        with rig.clients(_RATE) as outage:
            event = time.monotonic()
            _lose_on_all_links(rig, active, peer.name)
            _until_has_it(rig, peer)
            outage.until_steady(time.monotonic())
            gaps.append(gap(outage.attempts(), event).gap)
        held = rig.holders.over(event)
        assert held.moves == 1, held
        both.append(held.dual)
        _until_alarm(machine, f"{peer.name} is heard but doesn't hear this node")
        _until_alarm(peer, f"nothing is heard of {active} on any link")
        assert machine.state() == "backup"
        healed = time.monotonic()
        rig.networks.lose_nothing()
        _until_links_are_heard(rig)
        _stays(rig, peer.name, healed)
    counted(f"both had it: {Took(both)}; clients: {Took(gaps)}")
    assert max(both) <= 2 * _INTERVAL


def test_no_heartbeat_comes_from_the_active_node(rig: Rig) -> None:
    """But it answers for the address, and takes connections."""
    active, event = rig.active(), time.monotonic()
    peer = rig.machines[other(active)]
    _lose_on_all_links(rig, active, peer.name, _DATAGRAMS)
    _until_alarm(peer, "somebody has the addresses")
    assert peer.state() == "candidate"
    _until_alarm(rig.machines[active], f"{peer.name} is heard but doesn't hear this node")
    _nothing_happens(rig)
    rig.networks.lose_nothing()
    _until_links_are_heard(rig)
    _stays(rig, active, event)


def test_nothing_comes_from_the_backup(rig: Rig) -> None:
    active, event = rig.active(), time.monotonic()
    peer = rig.machines[other(active)]
    _lose_on_all_links(rig, peer.name, active)
    _until_alarm(rig.machines[active], f"nothing is heard of {peer.name} on any link")
    _until_alarm(peer, f"{active} is heard but doesn't hear this node")
    assert peer.state() == "backup"
    _nothing_happens(rig)
    rig.networks.lose_nothing()
    _until_links_are_heard(rig)
    _stays(rig, active, event)


def test_heartbeats_are_filtered_everywhere(rig: Rig, counted: Callable[[str], None]) -> None:
    """As by a firewall's rule. Nothing happens; but once the address is gone it is seen to be."""
    active, event = rig.active(), time.monotonic()
    peer = rig.machines[other(active)]
    _lose_on_all_links(rig, active, peer.name, _DATAGRAMS)
    _lose_on_all_links(rig, peer.name, active, _DATAGRAMS)
    _until_alarm(peer, "somebody has the addresses")
    _until_alarm(rig.machines[active], f"nothing is heard of {peer.name} on any link")
    _nothing_happens(rig)
    assert rig.holders.over(event).changes[1:] == ()

    with rig.clients(_RATE) as outage:
        out = time.monotonic()
        rig.networks.unplug(active, "lan")
        _until_has_it(rig, peer)
        outage.until_steady(time.monotonic())
        seen = gap(outage.attempts(), out)
    counted(f"clients, once its cable is out: {seen.gap:.3f} s")
    assert seen.gap <= 2.6
    rig.networks.plug(active, "lan")
    rig.networks.lose_nothing()
    assert rig.active() == peer.name
    held = rig.holders.over(event)
    assert (held.moves, held.dual) == (1, 0), held


def _lose_on_all_links(rig: Rig, sender: Node, receiver: Node, match: str = "") -> None:
    for link in DEVICES:
        rig.networks.lose(sender, receiver, match, link=link)


def _nothing_happens(rig: Rig) -> None:
    """For a while: no client fails."""
    with rig.clients() as outage:
        quiet = time.monotonic()
        outage.until_steady(quiet, seconds=_QUIET, limit=2 * _QUIET + 10)
        assert gap(outage.attempts(), quiet).failures == {}


def _stays(rig: Rig, active: Node, event: float) -> None:
    """Since the event nobody else has had the address, and it was there all the time."""
    held = rig.holders.over(event)
    assert (held.moves, held.dual, held.nobody) == (0, 0, 0), held
    assert rig.active() == active


def _until_has_it(rig: Rig, machine: Machine) -> None:
    until(lambda: rig.holders.only == machine.name, f"{machine.name} alone to have the address")


def _until_alarm(machine: Machine, words: str) -> None:
    until(
        lambda: any(alarm.startswith(words) for alarm in machine.alarms()),
        f"{machine.name} to say: {words}",
    )


def _until_links_are_heard(rig: Rig) -> None:
    """By both nodes, on both links."""
    until(lambda: all(map(_hears, rig.machines.values())), "both nodes to hear one another")


def _hears(machine: Machine) -> bool:
    words = ("nothing is heard of", "doesn't hear this node")
    status = machine.status()
    return bool(status) and not any(word in one for word in words for one in status["alarms"])
