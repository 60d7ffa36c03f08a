"""A pair whose nodes are cut off from one another: who has the address then, and once that is over.

Both sides are without a word of the other. A side that sees a gateway goes on with mail; one that
sees none may be the one that is cut off, and leaves the address alone.
"""

import json
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from harness.figures import Took
from harness.networks.pair import DEVICES, NODES, VIRTUAL, Node
from harness.pair.outage import gap
from harness.pair.rig import PORT, Rig, other
from harness.scale import count
from harness.waiting import LIMIT, until

_RATE = 100.0
_APART = count(1.0, 60.0)  # seconds
_SPLITS = count(1, 10)
_INTERVAL = 0.2  # of heartbeats


@pytest.fixture
def rig(pair: Rig) -> Iterator[Rig]:
    """With every link as it should be, before and after."""
    yield pair
    pair.networks.lose_nothing()
    for node in NODES:
        for link in DEVICES:
            pair.networks.heal(node, link)
    pair.active()


def test_each_side_has_a_gateway(rig: Rig, counted: Callable[[str], None]) -> None:
    """Both go on, each with the clients of its side; then the one that took over later stays."""
    both, outs = [], []
    for apart in [_APART, *[1.0] * (_SPLITS - 1)]:
        active = rig.active()
        peer = other(active)
        _meet(rig, "gw")
        with rig.clients(_RATE) as outage:
            event = time.monotonic()
            _part(rig, peer, [active, "cl"])
            until(lambda: len(rig.holders.now) == 2, "both to have the address")
            outage.until_steady(time.monotonic(), seconds=apart, limit=apart + 30)
            assert gap(outage.attempts(), event).failures == {}, "on the first one's side"
            assert _entry(rig, "cl") == _mac(rig, active)
            assert _entry(rig, "gw") == _mac(rig, peer), "which is on both sides"

            healed = time.monotonic()
            rig.networks.lose_nothing()
            until(lambda: len(rig.holders.now) == 1, "one to have the address")
            outage.until_steady(time.monotonic())
            outs.append(gap(outage.attempts(), healed).out)
        held = rig.holders.over(healed)
        both.append(held.dual)
        assert held.nobody == 0
        assert rig.holders.only == peer, "it took over later"
        assert [_entry(rig, one) for one in ("cl", "gw")] == [_mac(rig, peer)] * 2
    counted(f"healed: both had it for {Took(both)} more; clients: out {Took(outs)}")
    assert max(both) <= 2 * _INTERVAL


def test_the_active_node_is_cut_off(rig: Rig, counted: Callable[[str], None]) -> None:
    """From everybody, and it isn't told, as where a switch dies: its carrier stays."""
    active = rig.active()
    peer = other(active)
    with rig.clients(_RATE) as outage:
        event = time.monotonic()
        for link in DEVICES:
            rig.networks.cut(active, link)
        until(lambda: peer in rig.holders.now, "the other one to have the address")
        outage.until_steady(time.monotonic())
        seen = gap(outage.attempts(), event)
        assert seen.gap <= 2.6

        healed = time.monotonic()
        for link in DEVICES:
            rig.networks.heal(active, link)
        until(lambda: rig.holders.only == peer, "the other one to have it alone")
        outage.until_steady(time.monotonic())
        after = gap(outage.attempts(), healed)
    held = rig.holders.over(healed)
    counted(
        f"clients: {seen.gap:.3f} s; healed: both had it for {held.dual:.3f} s,"
        f" clients: out {after.out:.3f} s"
    )
    assert held.dual <= 2 * _INTERVAL, held
    assert _entry(rig, "cl") == _mac(rig, peer)
    assert rig.active() == peer


def test_the_backup_is_cut_off(rig: Rig) -> None:
    """It sees no gateway, so it leaves the address alone."""
    active, event = rig.active(), time.monotonic()
    peer = rig.machines[other(active)]
    with rig.clients() as outage:
        for link in DEVICES:
            rig.networks.cut(peer.name, link)
        alone = f"no gateway answers, so it may be {peer.name} that is cut off"
        until(lambda: alone in peer.explain(), "it to say that it is alone")
        outage.until_steady(time.monotonic(), seconds=_APART, limit=_APART + 30)
        assert peer.state() == "backup"
        for link in DEVICES:
            rig.networks.heal(peer.name, link)
        until(lambda: alone not in peer.explain(), "it to hear the other one")
        outage.until_steady(time.monotonic())
        assert gap(outage.attempts(), event).failures == {}
    assert rig.active() == active
    held = rig.holders.over(event)
    assert (held.moves, held.dual, held.nobody) == (0, 0, 0), held


def _part(rig: Rig, one: str, others: list[str]) -> None:
    """Nothing goes between it and them, by any link."""
    for network in others:
        for link in DEVICES:
            rig.networks.lose(one, network, link=link)
            rig.networks.lose(network, one, link=link)


def _meet(rig: Rig, network: str) -> None:
    """So that a network has learned who has the address."""
    connect = rig.networks.inside(network, lambda: socket.create_connection((VIRTUAL, PORT), LIMIT))
    connect.result(LIMIT).close()


def _entry(rig: Rig, network: str) -> str:
    """Whose the address is there, as ARP has it."""
    shown = rig.networks.run(network, "ip", "-json", "neighbour", "show", VIRTUAL)
    return "".join(str(one.get("lladdr", "")) for one in json.loads(shown))


def _mac(rig: Rig, node: Node) -> str:
    shown = rig.networks.run(node, "ip", "-json", "link", "show", "eth0")
    return str(json.loads(shown)[0]["address"])
