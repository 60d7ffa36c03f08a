"""What is told while the node that stands by couldn't take over; a switch to it is refused, unless
it is forced.
"""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.networks.pair import ADDRESSES
from harness.pair.rig import PORT, Machine, Rig, other, pair_rig
from harness.programs.alerts import fired
from harness.waiting import LIMIT, until

_FAULT_HOLD = 1.0  # seconds


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A pair."""
    folder = tmp_path_factory.mktemp("pair")
    with pair_rig(folder, fault_hold=f"{_FAULT_HOLD:.0f}s", run_grace="1s") as made:
        yield made


def _kill(_rig: Rig, standby: Machine) -> Callable[[], None]:
    standby.balancer.process.kill()
    return standby.start_balancer


def _maint(_rig: Rig, standby: Machine) -> Callable[[], object]:
    assert standby.command("maint")[0] == 0
    return lambda: standby.command("ready")


def _pause(_rig: Rig, standby: Machine) -> Callable[[], object]:
    assert standby.balancer.command("pause").returncode == 0
    return lambda: standby.balancer.command("resume")


def _lose_servers(_rig: Rig, standby: Machine) -> Callable[[], object]:
    assert standby.balancer.command("maint", "farm/mx").returncode == 0
    return lambda: standby.balancer.command("ready", "farm/mx")


def _drain(rig: Rig, standby: Machine) -> Callable[[], None]:
    config = json.loads(standby.file.read_text())
    # A session has the deadline of its beginning.
    standby.balancer.change(config | {"drain": {"deadline": "30m"}})
    address = (ADDRESSES[standby.name]["lan"], PORT)
    client = rig.networks.inside("cl", lambda: Client(address)).result(LIMIT)
    client.begin_mail()
    standby.balancer.process.send(signal.SIGTERM)

    def mend() -> None:
        client.close()
        standby.balancer.process.wait()
        standby.balancer.write(config)
        standby.start_balancer()

    return mend


# What makes it so, what is said of it, and whether a switch can be forced.
KINDS = {
    "dead": (_kill, "the balancer of {} doesn't serve", True),
    "maint": (_maint, "{} is in maintenance", False),
    "paused": (_pause, "the balancer of {} is paused", True),
    "no servers": (_lose_servers, "{} sees no server of a pool", True),
    "drains": (_drain, "the balancer of {} drains, or begins anew", True),
}


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize("kind", KINDS)
def test_redundancy_is_lost(
    rig: Rig, tmp_path: Path, counted: Callable[[str], None], kind: str
) -> None:
    active = rig.machines[rig.active()]
    standby = rig.machines[other(active.name)]
    until(lambda: all(map(_is_whole, (active, standby))), "a whole pair")
    assert _fired(active, tmp_path) == _fired(standby, tmp_path) == set()
    cause, words, may_be_forced = KINDS[kind]
    why = words.format(standby.name)
    began = time.monotonic()
    mend = cause(rig, standby)
    until(lambda: any(why in one for one in active.alarms()), f"the alarm of {why}")
    until(lambda: not standby.status()["redundant"], "the node itself to know")
    counted(f"{kind}: alarm on both nodes after {time.monotonic() - began:.2f} s")
    for machine in (active, standby):
        assert {"MailweirPairAlarm", "MailweirPairNotRedundant"} <= _fired(machine, tmp_path)
    began = time.monotonic()
    code, refusal = active.command("switch")
    assert (code, why in refusal) == (1, True), refusal
    assert standby.command("switch")[0] == 1
    assert rig.holders.over(began).moves == 0
    code, refusal = active.command("switch", "--force")
    assert code == (0 if may_be_forced else 1), refusal
    if may_be_forced:
        until(lambda: rig.holders.only == standby.name, "it to have the address")
        # It isn't given back at once, however bad it is there.
        time.sleep(3 * _FAULT_HOLD)
        assert rig.holders.only == standby.name
    forced = "moved by --force" if may_be_forced else "not even by --force"
    counted(f"{kind}: `switch` refused on both, 0 moves; {forced}")
    mend()
    until(lambda: all(map(_is_whole, (active, standby))), "a whole pair")


def _is_whole(machine: Machine) -> bool:
    status = machine.status()
    return bool(status["redundant"] and not status["alarms"])


def _fired(machine: Machine, folder: Path) -> set[str]:
    """The alerts that fire for what this node's metrics are now, but for that of both."""
    return fired("mailweir-ha.rules.yml", machine.metrics(), folder) - {"MailweirPairNotServed"}
