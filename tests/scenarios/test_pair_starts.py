"""Both nodes of a pair begin at once, with equal priorities: exactly one is active (H16)."""

import signal
import time
from collections.abc import Callable

from harness.figures import Took
from harness.pair_rig import Machine, Rig
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
