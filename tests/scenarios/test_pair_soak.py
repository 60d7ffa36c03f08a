"""A pair on two nodes whose processors are busy: for as long as MAILWEIR_SOAK says, in seconds
(`make soak-pair`: an hour), nothing moves, and heartbeats come in time.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from harness.mailweir.run import Tree
from harness.networks.pair import NODES, Node
from harness.pair.datagrams import Heartbeat, Opened, heartbeats, opened
from harness.pair.outage import LIMIT
from harness.pair.rig import Machine, Rig, pair_rig
from harness.process import running
from harness.waiting import until

Counted = Callable[[str], None]

_SECONDS = float(os.environ.get("MAILWEIR_SOAK", 10))
_SPINNING = 2  # processes for each processor
_DEAD = 2.0  # seconds, the default: silence that long is a takeover


@contextmanager
def busy(folder: Path) -> Iterator[None]:
    """Every processor has more to do than it can."""
    number = _SPINNING * len(os.sched_getaffinity(0))
    with ExitStack() as exits:
        for one in range(number):
            spin = [sys.executable, "-c", "while True: pass"]
            exits.enter_context(running(spin, folder, f"spinning-{one}"))
        yield


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A pair with the default timers."""
    with pair_rig(tmp_path_factory.mktemp("pair")) as made:
        yield made


@pytest.mark.timeout(_SECONDS + 120, func_only=True)
@pytest.mark.parametrize("precedence", [True, False])
def test_nothing_moves(rig: Rig, tmp_path: Path, counted: Counted, precedence: bool) -> None:
    """With precedence over other processes (SCHED_RR), as root has it; a while without, too."""
    how = ", ".join({_scheduling(machine) for machine in rig.machines.values()})
    if not precedence:
        how = "SCHED_OTHER"
        for machine in rig.machines.values():
            _without_precedence(machine)
    seconds = _SECONDS if precedence else _SECONDS / 4
    node = rig.active()
    seen = {name: len(rig.machines[name].events()) for name in NODES}
    with ExitStack() as exits:
        heard = {name: exits.enter_context(heartbeats(rig.networks, name)) for name in NODES}
        exits.enter_context(busy(tmp_path))
        outage = exits.enter_context(rig.clients(rate=5))
        began = time.monotonic()
        until(lambda: time.monotonic() >= began + seconds, "the end", limit=seconds + 60)
        held = rig.holders.over(began)
        attempts = [one for one in outage.attempts() if one.began >= began]
    passed = {name: _sent(rig, name, heard[name]) for name in NODES}
    events = [one for name in NODES for one in rig.machines[name].events()[seen[name] :]]
    load = f"{_SPINNING} spinning processes for each of {len(os.sched_getaffinity(0))} processors"
    others = f"load {os.getloadavg()[0]:.1f} with all that ran beside it"
    counted(f"{seconds:.0f} s, {how}, {load}, {others}: {node} stayed, {held.moves} moves")
    for name in NODES:
        counted(f"from one heartbeat of {name} to the next: {_spread(passed[name])}")
    failed = sum(not one.ok for one in attempts)
    counted(f"{failed} of {len(attempts)} clients had to wait for more than {LIMIT} s")
    assert (held.moves, held.dual, held.nobody) == (0, 0, 0), held
    assert not [one for one in events if " -> " in str(one["event"])], events
    assert max(gaps(passed[name])[-1] for name in NODES) < _DEAD


def _scheduling(machine: Machine) -> str:
    """How its HA process is scheduled."""
    policy = os.sched_getscheduler(machine.ha.pid)
    return "SCHED_RR" if policy == os.SCHED_RR else "SCHED_OTHER (SCHED_RR isn't allowed here)"


def _without_precedence(machine: Machine) -> None:
    """All of its threads."""
    for thread in Path(f"/proc/{machine.ha.pid}/task").iterdir():
        os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))


def gaps(passed: Sequence[Opened]) -> list[float]:
    """Seconds from one to the next, the longest last."""
    return sorted(two.at - one.at for one, two in pairwise(passed))


def _spread(passed: Sequence[Opened]) -> str:
    found = gaps(passed)
    p50, p99 = (found[int(len(found) * part)] for part in (0.5, 0.99))
    return f"p50 {p50:.3f} s, p99 {p99:.3f} s, max {found[-1]:.3f} s ({len(found)})"


def _sent(rig: Rig, name: Node, heard: Sequence[Heartbeat]) -> list[Opened]:
    ha: Tree = json.loads(rig.machines[name].file.read_text())["ha"]
    return opened(heard, name, ha)
