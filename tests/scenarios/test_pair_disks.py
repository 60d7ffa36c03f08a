"""A disk that hangs under `mailweir ha` costs what is written on it: heartbeats go on, and the
addresses stay."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.machine.hanging import Hanging
from harness.pair.rig import Machine, Rig, other
from harness.waiting import until

pytestmark = pytest.mark.needs("clang")


@contextmanager
def _hanging(pair: Rig, folder: Path, machine: Machine, under: Path) -> Iterator[Hanging]:
    """Files below `under` hang for its process from here on, until the block ends."""
    hanging = Hanging(folder, under)
    machine.ha.stop()
    machine.start_ha(*hanging.before())
    pair.active()
    if pair.active() != machine.name:
        assert machine.command("switch")[0] == 0
        until(lambda: pair.holders.only == machine.name, "it to have the address")
        pair.active()
    hanging.begin()
    try:
        yield hanging
    finally:
        hanging.end()
        machine.ha.stop()
        machine.start_ha()
        pair.active()


def test_maintenance_that_can_not_be_kept(pair: Rig, tmp_path: Path) -> None:
    machine = pair.machines[pair.active()]
    kept = machine.folder / "state" / "ha" / "maintenance"
    with _hanging(pair, tmp_path, machine, kept.parent) as hanging:
        began = time.monotonic()
        code, words = machine.command("ready")
        assert (code, words.splitlines()[-1]) == (
            0,
            f"warning: {kept} isn't written yet: its disk takes long",
        )
        code, words = machine.command("maint")
        assert code == 0, words
        assert "isn't written yet" in words
        until(lambda: pair.holders.only == other(machine.name), "the other one to have it")
        assert machine.state() == "maint"
        hanging.end()
        until(kept.exists, "it to be kept")
        assert machine.command("maint")[1].startswith(f"{machine.name} has been in maintenance")
        assert machine.command("ready")[0] == 0
        assert not kept.exists()
        held = pair.holders.over(began)
        assert (held.moves, held.dual) == (1, 0), held


def test_keys_that_can_not_be_read(pair: Rig, tmp_path: Path) -> None:
    machine = pair.machines[pair.active()]
    key = Path(json.loads(machine.file.read_text())["ha"]["keys"]["1"])
    with _hanging(pair, tmp_path, machine, key):
        [before] = pair.holders.now
        machine.ha.send(signal.SIGHUP)
        until(lambda: "takes longer than 10 s" in str(machine.events()), "the refusal", limit=30)
        # All that time it was heard, and answered.
        assert pair.holders.now == {before}
        assert machine.state() == "active"
        peer = pair.machines[other(machine.name)]
        assert not [one for one in peer.events() if "silent" in str(one.get("reason"))]
