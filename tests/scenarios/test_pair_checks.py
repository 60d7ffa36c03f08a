"""How often servers are checked by the node of a pair that stands by, and once its turn comes."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.mailweir.kernel_rig import polite
from harness.mailweir.run import Tree
from harness.networks.pair import ADDRESSES, NODES, SERVER, Node, pair_networks
from harness.pair.rig import other, pair_rig
from harness.scale import count
from harness.servers.scripted import Stream, serving_in
from harness.waiting import until

Counted = Callable[[str], None]

_PORT = 2525
_SECONDS = count(12.0, 120.0)
_SOON = 3.0  # seconds; a check is due after one, and the machine is busy
_NODES = {ADDRESSES[node]["lan"]: node for node in NODES}


@pytest.mark.timeout(_SECONDS + 120, func_only=True)
def test_a_node_that_stands_by_checks_more_slowly(tmp_path: Path, counted: Counted) -> None:
    checks: list[tuple[float, Node]] = []

    def counting(stream: Stream) -> None:
        checks.append((time.monotonic(), _NODES[stream.socket.getpeername()[0]]))
        polite(stream)

    def edit(_node: Node, config: Tree) -> None:
        config["pools"]["farm"]["servers"]["mx"]["address"] = f"{SERVER}:{_PORT}"
        config["pools"]["farm"]["check"] = {"every": "1s", "fast": "500ms"}

    with (
        pair_networks() as networks,
        serving_in(networks, "srv", (SERVER, _PORT), counting),
        pair_rig(tmp_path, networks=networks, edit=edit) as rig,
    ):
        active = rig.active()
        standby = other(active)
        until(lambda: _slower(rig.machines[standby].balancer.status()) == 5, "it to be slow")
        assert _slower(rig.machines[active].balancer.status()) == 1
        shown = rig.machines[standby].balancer.command("status").stdout
        assert "checks come 5 times as seldom" in shown

        began = time.monotonic()
        until(lambda: time.monotonic() >= began + _SECONDS, "the checks", limit=2 * _SECONDS)
        found = Counter(node for at, node in checks if began <= at < began + _SECONDS)
        counted(
            f"in {_SECONDS:.0f} s {found[active]} checks by the active node, {found[standby]} by"
            " the one that stands by"
        )
        assert 0.6 * _SECONDS <= found[active] <= 1.3 * _SECONDS
        assert 1 <= found[standby] <= _SECONDS / 4 + 1

        before = len(checks)
        rig.machines[active].command("switch")
        until(lambda: _slower(rig.machines[standby].balancer.status()) == 1, "it to be active")
        moved = time.monotonic()
        until(lambda: standby in {node for _, node in checks[before:]}, "a check by it")
        took = time.monotonic() - moved
        counted(f"checked by the one whose turn it is {took:.1f} s after it knew")
        assert took < _SOON


def _slower(status: Tree) -> int:
    return int((status["ha"] or {}).get("slower_checks", 0))
