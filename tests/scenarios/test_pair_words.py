"""What `mailweir ha status` and `explain` say, and what a switch is."""

from pathlib import Path

from harness.pair_rig import other, pair_rig
from harness.waiting import until


def test_a_switch(tmp_path: Path) -> None:
    with pair_rig(tmp_path) as rig:
        active = rig.active()
        machine, peer = rig.machines[active], rig.machines[other(active)]
        code, words = machine.command("switch")
        assert (code, "stands by" in words) == (0, True), words
        until(lambda: rig.holders.only == peer.name, "the other one to have it")
        assert peer.explain().startswith(f"{peer.name} is active")
