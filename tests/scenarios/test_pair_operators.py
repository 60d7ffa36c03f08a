"""Operators' words of one node alone: both say so, and a takeover says what it loses."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from harness.mailweir.run import COMMAND
from harness.pair.rig import Machine, other, pair_rig
from harness.process import run
from harness.waiting import until
from mailweir.admin.client import ask

_DENIED = [f"203.0.113.{number}/32" for number in range(120)]


def _operate(machine: Machine, *words: str) -> None:
    done = run([*COMMAND, *words, "--socket", machine.folder / "admin.sock"])
    assert done.returncode == 0, done.stderr


def _deny(machine: Machine, prefix: str) -> None:
    """As `mailweir deny`, and faster."""
    ask(str(machine.folder / "admin.sock"), "POST", f"/api/v1/deny/{quote(prefix, safe='')}")


def _commands(machine: Machine) -> list[tuple[str, str]]:
    return [(one["only"], one["command"]) for one in machine.status()["words"]]


@pytest.mark.timeout(180)
def test_operators_words_of_one_node(tmp_path: Path) -> None:
    with pair_rig(tmp_path) as rig:
        active = rig.machines[rig.active()]
        standby = rig.machines[other(active.name)]
        assert _commands(active) == _commands(standby) == []
        _operate(active, "weight", "farm/mx", "50%", "--for", "2h")
        for prefix in _DENIED:
            _deny(active, prefix)
        _operate(standby, "pause", "mx", "--for", "3h")
        wanted = [
            (active.name, "mailweir weight farm/mx 50% --for 2h"),
            *((active.name, f"mailweir deny {prefix}") for prefix in _DENIED),
            (standby.name, "mailweir pause mx --for 3h"),
        ]
        for machine in (active, standby):
            until(partial(_has, machine, wanted), "the words")
            until(partial(_alarm, machine), "the alarm")
        assert _alarm(active) == (
            f"operators' words differ: only {standby.name} has `pause mx`; only {active.name} has"
            f" `weight farm/mx 50%` and `deny {_DENIED[0]}` and `deny {_DENIED[1]}` and 118 more"
        )
        assert 'mailweir_ha_words_only{at="this"} 121\n' in active.metrics()
        until(lambda: _shown(active, "alarm"), "it to be shown by `mailweir status`")

        # It dies. Who takes over says what is lost by that, and what repeats it.
        _operate(standby, "resume", "mx")
        until(lambda: standby.name not in dict(_commands(standby)), "the last word to be over")
        rig.networks.kill(active.name, active.pids())
        until(lambda: standby.state() == "active", "the other one to take over", limit=20)
        [lost] = [one for one in standby.events() if one["event"] == "operators' words are missing"]
        assert lost["reason"].startswith(
            f"they were said on {active.name} and not on {standby.name}; to repeat them here:"
            f" mailweir weight farm/mx 50% --for 2h; mailweir deny {_DENIED[0]};"
        )
        assert lost["reason"].endswith(
            f"; and 111 more, see `mailweir ha status` and {active.name}"
        )
        # Typed as they are shown they end the alarm, though nobody is there to confirm it.
        weight, *denies = [command.split() for _, command in _commands(standby)]
        _operate(standby, *weight[1:])
        for _, _, prefix in denies:
            _deny(standby, prefix)
        until(lambda: not _commands(standby), "nothing to be missing")
        assert not _alarm(standby)


def _has(machine: Machine, wanted: Sequence[tuple[str, str]]) -> bool:
    return sorted(_commands(machine)) == sorted(wanted)


def _alarm(machine: Machine) -> str:
    return next((one for one in machine.alarms() if "operators' words" in one), "")


def _shown(machine: Machine, words: str) -> bool:
    done = run([*COMMAND, "status", "--socket", machine.folder / "admin.sock"])
    return words in done.stdout
