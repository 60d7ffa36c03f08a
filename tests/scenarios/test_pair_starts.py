"""Both nodes of a pair begin at once, with equal priorities: exactly one is active (H16)."""

import signal
import time
from collections.abc import Callable
from functools import partial

import pytest

from harness.figures import Took
from harness.networks.pair import ADDRESSES, DEVICES, GATEWAY, Link
from harness.pair.rig import Machine, Rig, other
from harness.scale import count
from harness.waiting import until

_DEAD, _INTERVAL = 2.0, 0.2
# RFC 9568's skew, of the default priority.
_SKEW = _INTERVAL * (255 - 100) / 255
_BOUND = _DEAD + _SKEW + 1.0
# So long it is seen that nothing changes any more.
_STEADY = 3 * _INTERVAL


def test_both_begin_at_once(pair: Rig, counted: Callable[[str], None]) -> None:
    # Told to end they release the address; killed they leave it to the next ones to remove.
    ends = [signal.SIGTERM, signal.SIGKILL]
    took, firsts = list[float](), list[str]()
    for number in range(count(3, 200)):
        seconds, first = _begin(pair, ends[number % len(ends)])
        took.append(seconds)
        firsts.append(first)
    words = ", ".join(f"{name} {firsts.count(name)} times" for name in sorted(set(firsts)))
    counted(f"active after both had begun: {Took(took)}; {words}")
    assert max(took) <= _BOUND


@pytest.mark.parametrize("late", [("cross",), ("lan",), ("cross", "lan")], ids="+".join)
def test_addresses_that_come_late(
    pair: Rig, late: tuple[Link, ...], counted: Callable[[str], None]
) -> None:
    """After a power cut, while the peer is off: it begins with the links that there are."""
    node = pair.active()
    machine, peer = pair.machines[node], pair.machines[other(node)]
    own = {link: [f"{ADDRESSES[node][link]}/24", "dev", DEVICES[link]] for link in late}
    for one in (peer, machine):
        one.ha.stop()
    for address in own.values():
        pair.networks.run(node, "ip", "address", "delete", *address)
    began = time.monotonic()
    machine.start_ha()
    try:
        for link in late:
            why = f"link {link} can't be used: this machine doesn't have {ADDRESSES[node][link]}"
            until(partial(_warns, machine, why), "the alarm")
        if len(late) == len(DEVICES):
            until(lambda: "none of its links" in machine.explain(), "the reason")
            assert not pair.holders.now
        elif late == ("cross",):
            until(lambda: pair.holders.only == node, "it to have the address")
            counted(f"without {late[0]}: active {time.monotonic() - began:.1f} s after the start")
    finally:
        for address in own.values():
            pair.networks.run(node, "ip", "address", "add", *address)
        if "lan" in late:
            pair.networks.run(node, "ip", "route", "replace", "default", "via", GATEWAY)
    came = time.monotonic()
    until(lambda: pair.holders.only == node, "it to have the address")
    counted(f"{'+'.join(late)} late: active {time.monotonic() - came:.1f} s after they came")
    until(lambda: not _warns(machine, "can't be used"), "the alarm to be over")
    peer.start_ha()
    assert pair.active() == node
    until(lambda: not machine.alarms(), "all links to be heard")


def _warns(machine: Machine, why: str) -> bool:
    return any(why in one for one in machine.alarms())


def _begin(rig: Rig, end: signal.Signals) -> tuple[float, str]:
    """How long after both run one is active, and which."""
    machines = rig.machines.values()
    for machine in machines:
        machine.ha.send(end)
    for machine in machines:
        machine.ha.wait()
    for machine in machines:
        machine.start_ha()
    began = {machine.name: until(_runs(machine), "it to run") for machine in machines}
    first = rig.active()
    settled = time.monotonic()
    until(lambda: time.monotonic() > settled + _STEADY, "to see that it stays so")
    # One that came later found the other one active, and what an earlier life has left is gone.
    held = rig.holders.over(max(began.values()))
    taken = [one for one in held.changes[1:] if one.nodes]
    assert held.dual == 0, held
    assert len(taken) <= 1, held
    assert rig.holders.only == first
    return (taken[0].at - max(began.values()) if taken else 0.0), first


def _runs(machine: Machine) -> Callable[[], float]:
    return lambda: time.monotonic() if machine.state() else 0.0
