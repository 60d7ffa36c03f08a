"""What a node finds late, after a power cut say: IPv6 addresses that are still checked, devices
that aren't there yet, a witness without its address. It begins without them, and says what it
waits for.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from harness.mailweir.run import COMMAND, Tree
from harness.networks.pair import ADDRESSES6, DEVICES, NODES, WITNESS, Link, Node
from harness.pair.rig import Machine, Rig, other, pair_rig
from harness.process import Running, running
from harness.waiting import until

Counted = Callable[[str], None]

_WITNESS_PORT = 5406
_LINKS6 = {
    node: {"links": {link: f"[{ADDRESSES6[node][link]}]:5405" for link in DEVICES}}
    for node in NODES
}


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A pair with a witness, whose links are IPv6's."""
    with pair_rig(tmp_path_factory.mktemp("pair"), witness=True, edit=_edit) as rig:
        yield rig


def _edit(_node: Node, config: Tree) -> None:
    config["ha"] |= {"nodes": _LINKS6, "witness": {"address": f"{WITNESS}:{_WITNESS_PORT}"}}


@pytest.mark.parametrize("tentative", [("cross",), ("cross", "lan")], ids="+".join)
def test_addresses_that_are_checked_at_the_start(
    six: Rig, tentative: tuple[Link, ...], counted: Counted
) -> None:
    """Nothing can be sent from them until nobody has objected (RFC 4862, section 5.4)."""
    with _alone(six) as machine:
        for link in tentative:
            _check_for(six, machine, link, seconds=4)
        began = time.monotonic()
        machine.start_ha()
        for link in tentative:
            address = ADDRESSES6[machine.name][link]
            why = (
                f"link {link} can't be used: this machine doesn't have {address}, or it isn't ready"
            )
            until(partial(_warns, machine, why), "the alarm")
        until(lambda: six.holders.only == machine.name, "it to have the address")
        counted(f"{'+'.join(tentative)} checked: active {time.monotonic() - began:.1f} s later")
        until(lambda: not _warns(machine, "can't be used"), "the alarm to be over")


@pytest.mark.parametrize("late", ["cross", "lan"])
def test_a_device_that_comes_late(pair: Rig, late: Link, counted: Counted) -> None:
    """The virtual address is to be on `lan`'s."""
    with _alone(pair) as machine:
        pair.networks.take_out(machine.name, late)
        try:
            machine.start_ha()
            until(partial(_warns, machine, f"link {late} can't be used"), "the alarm")
            if late == "lan":
                until(lambda: "eth0" in machine.explain(), "the reason")
                assert not pair.holders.now
            else:
                until(lambda: pair.holders.only == machine.name, "it to have the address")
        finally:
            pair.networks.put_in(machine.name, late)
        came = time.monotonic()
        until(lambda: pair.holders.only == machine.name, "it to have the address")
        counted(f"{late} came late: active {time.monotonic() - came:.1f} s after it came")
        until(lambda: not _warns(machine, "can't be used"), "the alarm to be over")


def test_a_witness_whose_address_comes_late(six: Rig, tmp_path: Path, counted: Counted) -> None:
    address = [f"{WITNESS}/24", "dev", "eth0"]
    machine = six.machines[six.active()]
    six.networks.run("w", "ip", "address", "delete", *address)
    silent = "nothing is heard of the witness"
    until(lambda: _warns(machine, silent), "the alarm")
    with _witness(six, tmp_path, machine) as witness:
        witness.until(lambda: "event=started" in witness.err, "it to begin")
        assert _warns(machine, silent)
        six.networks.run("w", "ip", "address", "add", *address)
        six.networks.run("w", "ip", "route", "replace", "default", "via", "203.0.113.1")
        came = time.monotonic()
        until(lambda: not _warns(machine, silent), "it to be heard")
        for one in six.machines.values():
            until(partial(_witness_heard, one), "both to hear it")
        counted(f"both nodes hear it {time.monotonic() - came:.1f} s after its address came")


@contextmanager
def _alone(rig: Rig) -> Iterator[Machine]:
    """One node's `mailweir ha` is to be started while the peer's is off; all is well afterwards."""
    node = rig.active()
    machine, peer = rig.machines[node], rig.machines[other(node)]
    for one in (peer, machine):
        one.ha.stop()
    yield machine
    peer.start_ha()
    assert rig.active() == node
    until(lambda: not _warns(machine, "link"), "all links to be heard")


def _check_for(rig: Rig, machine: Machine, link: Link, *, seconds: int) -> None:
    """The node's address there is added anew, and checked for so long."""
    name, device = machine.name, DEVICES[link]
    address = f"{ADDRESSES6[name][link]}/64"
    rig.networks.run(name, "sysctl", "-qw", f"net.ipv6.conf.{device}.dad_transmits={seconds}")
    rig.networks.run(name, "ip", "address", "delete", address, "dev", device)
    rig.networks.run(name, "ip", "address", "add", address, "dev", device)


@contextmanager
def _witness(rig: Rig, folder: Path, machine: Machine) -> Iterator[Running]:
    argv: list[str | Path] = [
        *rig.networks.before("w"),
        *COMMAND,
        "ha",
        "witness",
        "-c",
        machine.file,
    ]
    with running(argv, folder, "witness") as process:
        yield process


def _witness_heard(machine: Machine) -> bool:
    heard = machine.status()["witness"]["heard_seconds"]
    return heard is not None and heard < 1.0


def _warns(machine: Machine, why: str) -> bool:
    return any(why in one for one in machine.alarms())
