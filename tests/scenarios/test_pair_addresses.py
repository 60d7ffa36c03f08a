"""What is done to the addresses of a pair by others: removed, claimed, left behind, flapping."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from ipaddress import ip_address
from pathlib import Path

import pytest

from harness.networks.pair import NODES, VIRTUAL, VIRTUAL6, Node
from harness.pair.holders import holders
from harness.pair.outage import gap, outage_clients_of
from harness.pair.rig import PORT, Machine, Rig, other, pair_rig
from harness.process import Running, running
from harness.scale import LONG, count
from harness.waiting import until
from mailweir.ha.kernel.frames import announcements

Counted = Callable[[str], None]

_FAULT_HOLD = 3.0  # seconds
_LEASE = 30.0  # seconds: longer than a process takes to begin on a busy machine
_CRASH_LIMIT = 2.6  # seconds until clients are greeted again, 99 of 100 times


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A pair with an address of each family."""

    def edit(_node: Node, config: dict[str, object]) -> None:
        config["listeners"]["mx"]["bind"].append(f"[::]:{PORT}")  # type: ignore[index]

    virtual = [{"address": f"{VIRTUAL}/24", "dev": "eth0"}]
    virtual.append({"address": f"{VIRTUAL6}/64", "dev": "eth0"})
    with pair_rig(
        tmp_path_factory.mktemp("pair"),
        edit=edit,
        virtual=virtual,
        fault_hold=f"{_FAULT_HOLD:.0f}s",
        timers={"lease": f"{_LEASE:.0f}s"},
    ) as made:
        yield made


def mac(rig: Rig, network: str) -> str:
    """Of a network's `eth0`."""
    shown = json.loads(rig.networks.run(network, "ip", "-json", "link", "show", "eth0"))
    return str(shown[0]["address"])


def known_to_clients(rig: Rig, address: str = VIRTUAL) -> str:
    """Where the clients' machine thinks that the address is."""
    shown = rig.networks.run("cl", "ip", "neighbour", "show", address, "dev", "eth0").split()
    return shown[shown.index("lladdr") + 1] if "lladdr" in shown else ""


def moves(machine: Machine, since: int) -> list[str]:
    """What a node's state became, of the events from number `since` on."""
    return [str(one["event"]) for one in machine.events()[since:] if " -> " in str(one["event"])]


def alarms(machine: Machine) -> str:
    return "\n".join(machine.status().get("alarms", []))


def test_address_that_is_removed_by_hand(rig: Rig, counted: Counted) -> None:
    """It is added again; what is removed again and again is given to the peer."""
    node = rig.active()
    machine, peer = rig.machines[node], rig.machines[other(node)]

    def remove() -> float:
        at = time.monotonic()
        rig.networks.run(node, "ip", "address", "delete", f"{VIRTUAL}/32", "dev", "eth0")
        return at

    first = remove()
    until(lambda: rig.holders.only == node, "it to be there again")
    until(lambda: f"{VIRTUAL} was removed; added again" in str(machine.events()), "the event")
    assert machine.state() == "active"
    once = rig.holders.over(first)
    assert (once.moves, once.dual) == (0, 0)
    second = remove()
    until(lambda: rig.holders.only == peer.name, "the peer to have it")
    until(lambda: machine.state() == "fault", "the fault")
    assert f"{VIRTUAL} was removed again and again" in machine.explain()
    twice = rig.holders.over(second)
    assert (twice.moves, twice.dual) == (1, 0)
    assert rig.active() == peer.name, "the fault ends, and nothing moves back"
    assert time.monotonic() - second >= _FAULT_HOLD
    counted(f"without it for {once.nobody * 1e3:.1f} ms, then {twice.nobody * 1e3:.0f} ms")


def test_address_that_a_third_host_takes(rig: Rig, counted: Counted) -> None:
    """Whatever it says, clients find the right node again, and nothing moves."""
    node = rig.active()
    right, wrong = mac(rig, node), mac(rig, "gw")
    began = time.monotonic()
    rig.networks.run("gw", "ip", "address", "add", f"{VIRTUAL}/32", "dev", "eth0")
    try:
        with rig.clients() as outage:
            for _ in range(count(3, 30)):
                _claim(rig)
                claimed = time.monotonic()
                until(lambda: "says that it has" in alarms(rig.machines[node]), "the alarm")
                outage.until_steady(claimed)
                assert known_to_clients(rig) == right
            gaps = gap(outage.attempts(), began)
    finally:
        rig.networks.run("gw", "ip", "address", "delete", f"{VIRTUAL}/32", "dev", "eth0")
    assert f"{wrong} says that it has {VIRTUAL}" in alarms(rig.machines[node])
    held = rig.holders.over(began)
    assert (held.moves, held.dual, held.nobody) == (0, 0, 0)
    counted(f"{count(3, 30)} claims; attempts that failed: {sum(gaps.failures.values())}")


def _claim(rig: Rig) -> None:
    """The gateway says that it has the address."""
    hardware = bytes.fromhex(mac(rig, "gw").replace(":", ""))

    def say() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("eth0", 0))
            for frame in announcements(ip_address(VIRTUAL), hardware):
                raw.send(frame)

    rig.networks.inside("gw", say).result(5)


def test_address_that_a_killed_process_left(rig: Rig, counted: Counted) -> None:
    """The next one removes it before it decides anything."""
    node = rig.active()
    machine = rig.machines[node]
    killed = time.monotonic()
    machine.ha.kill()
    machine.start_ha()
    began = machine.ha
    until(lambda: machine.state() not in ("", "init"), "the next one to have listened")
    removed = rig.holders.over(killed)
    rig.active()
    held = rig.holders.over(killed)
    assert held.dual == 0
    said = began.err
    left = said.index("an address of an earlier process is removed")
    assert left < said.index("init -> "), said
    assert f'address="{VIRTUAL} on eth0"' in said
    assert f'address="{VIRTUAL6} on eth0"' in said
    assert node not in removed.changes[1].nodes
    assert removed.changes[1].at - killed < _LEASE - 1, "before its lease was over"
    at = removed.changes[1].at - killed
    counted(f"removed {at:.2f} s after the kill, nobody had it for {held.nobody:.2f} s")


def test_carrier_that_flaps(rig: Rig, counted: Counted) -> None:
    """Once a second, for as long as it likes: the address moves once."""
    seconds = count(8, 60)
    node = rig.active()
    began = time.monotonic()
    seen = {name: len(rig.machines[name].events()) for name in NODES}
    for _ in range(seconds):
        # The case: half a second without, half a second with.
        rig.networks.unplug(node, "lan")
        time.sleep(0.5)
        rig.networks.plug(node, "lan")
        time.sleep(0.5)
    assert rig.active() == other(node)
    held = rig.holders.over(began)
    assert held.moves <= 2
    assert held.dual == 0
    took_over = [
        name for name in NODES if "candidate -> active" in moves(rig.machines[name], seen[name])
    ]
    assert took_over == [other(node)]
    counted(f"{seconds} s: {held.moves} moves, nobody had it for {held.nobody:.2f} s")


def test_ipv6_address_after_a_crash(rig: Rig, tmp_path: Path, counted: Counted) -> None:
    """Clients reach it as soon as IPv4's, and it was never tentative."""
    gaps = []
    for number in range(count(1, 20)):
        node = rig.active()
        peer = other(node)
        before = rig.networks.before("cl")
        with (
            holders(rig.networks, VIRTUAL6) as held,
            _monitor(rig, peer, tmp_path, number) as monitor,
            outage_clients_of(
                tmp_path, (VIRTUAL6, PORT), before, name=f"clients-{number}"
            ) as outage,
        ):
            outage.until_steady()
            crashed = time.monotonic()
            rig.networks.kill(node, rig.machines[node].pids())
            outage.until_steady(crashed)
            gaps.append(gap(outage.attempts(), crashed).gap)
            assert held.over(crashed).dual == 0
            assert known_to_clients(rig, VIRTUAL6) == mac(rig, peer)
            said = [line for line in monitor.out.splitlines() if VIRTUAL6 in line]
        assert said
        assert not [line for line in said if "tentative" in line or "dadfailed" in line], said
        _revive(rig, node)
    counted(f"{len(gaps)} crashes, greeted again after up to {max(gaps):.2f} s: {gaps}")
    assert max(gaps) <= _CRASH_LIMIT


def _monitor(rig: Rig, node: Node, folder: Path, number: int) -> AbstractContextManager[Running]:
    """What the kernel says of addresses in a node's network."""
    command = [*rig.networks.before(node), "ip", "-6", "monitor", "address"]
    return running(command, folder, f"monitor-{number}")


def _revive(rig: Rig, node: Node) -> None:
    rig.networks.revive(node)
    rig.machines[node].start_balancer()
    rig.machines[node].start_ha()
    rig.active()


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("active", NODES if LONG else NODES[:1])
def test_two_machines_of_one_name(rig: Rig, counted: Counted, active: Node, heard: bool) -> None:
    """One more that takes itself for `a`, whether the peer hears it or not: told; takes nothing."""
    if rig.active() != active:
        assert rig.machines[active].command("switch")[0] == 0
    assert rig.active() == active
    began = time.monotonic()
    with rig.twin("a", heard=heard) as twin:
        right, wrong = rig.machines["a"], "another machine has this node's own address"
        until(lambda: f"can't take over: {wrong}" in twin.explain(), "it to know", limit=30)
        until(lambda: wrong in alarms(right), "the first one to know")
        if heard:
            until(lambda: "two machines call themselves a" in alarms(rig.machines["b"]), "alarm")
        told = time.monotonic() - began
        # The case: for longer than anybody waits for a lease to be over.
        until(lambda: time.monotonic() - began > told + count(2.0, 60.0), "nothing", limit=70)
        assert twin.status()["takeovers"] == 0
    until(lambda: wrong not in alarms(right), "the double to be gone")
    assert rig.active() == active
    held = rig.holders.over(began)
    assert (held.moves, held.dual, held.nobody) == (0, 0, 0)
    until(lambda: not _hears_badly(rig), "each to hear the other one again")
    counted(f"{active} active, heard: {heard}: told {told:.1f} s after it was switched on, no move")


def _hears_badly(rig: Rig) -> list[str]:
    told = [one for machine in rig.machines.values() for one in alarms(machine).splitlines()]
    return [one for one in told if "hear" in one]
