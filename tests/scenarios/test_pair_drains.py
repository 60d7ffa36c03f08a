"""What becomes of a pair where a `mailweir run` drains: for a restart, for a stop, one that doesn't
end, and one that stands by.

Clients come twenty times a second and wait as mail servers do; a session is in the middle of a
message.
"""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.run import Tree
from harness.networks.pair import ADDRESSES, VIRTUAL, Node
from harness.pair.outage import Outage, outage_clients_of
from harness.pair.rig import PORT, Machine, Rig, other, pair_rig
from harness.programs.supervisor import Supervisor, supervisor
from harness.waiting import LIMIT, until

Counted = Callable[[str], None]

_HANDOVER = 4.0  # seconds
_PATIENT = 15.0  # seconds that a client waits to be greeted
_RATE = 20.0


def _edit(_node: Node, config: Tree) -> None:
    # What an operator has who never wrote any of it.
    del config["drain"]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A pair."""
    folder = tmp_path_factory.mktemp("pair")
    with pair_rig(folder, edit=_edit, run_grace="2s", handover=f"{_HANDOVER:.0f}s") as made:
        yield made


@contextmanager
def _supervised(rig: Rig, machine: Machine) -> Iterator[Supervisor]:
    """Its `mailweir run` is another one, whose listening sockets somebody keeps."""
    machine.balancer.process.stop()
    with supervisor(machine.folder) as found:
        _start(rig, machine, found)
        try:
            yield found
        finally:
            machine.balancer.process.stop()
            for end in ("notify", "handed"):
                (machine.folder / end).unlink()
    machine.start_balancer()
    until(lambda: _serves(machine), "it to serve")
    rig.active()


def _start(rig: Rig, machine: Machine, found: Supervisor) -> None:
    machine.start_balancer(*found.before())
    found.until(lambda said: "READY=1" in said)
    until(lambda: _serves(machine), "it to serve")
    rig.active()


def _serves(machine: Machine) -> bool:
    # What is known of the process before it stays so for its grace.
    if "event=ready" not in machine.balancer.process.err:
        return False
    own = machine.status().get("nodes", [{"flags": []}])[0]
    return "dataplane_ok" in own["flags"] and not any(
        "`mailweir run`" in a for a in machine.alarms()
    )


@contextmanager
def _clients(rig: Rig, folder: Path) -> Iterator[Outage]:
    before = rig.networks.before("cl")
    with outage_clients_of(folder, (VIRTUAL, PORT), before, rate=_RATE, limit=_PATIENT) as found:
        found.until_steady()
        yield found


def _in_data(rig: Rig, address: str = VIRTUAL) -> Client:
    client = rig.networks.inside("cl", lambda: Client((address, PORT))).result(LIMIT)
    client.begin_mail()
    client.send(b"Subject: half of it\r\n")
    return client


def _until_it_drains(machine: Machine) -> None:
    until(lambda: 'event="draining' in machine.balancer.process.err, "it to drain")
    until(lambda: any("drains" in one for one in machine.alarms()), "the alarm")


def _came_of(outage: Outage, since: float) -> str:
    outcomes = Counter(one.outcome for one in outage.attempts() if one.began >= since - _PATIENT)
    waited = max(one.took for one in outage.attempts() if one.ok and one.began >= since - 1)
    failed = {word: number for word, number in outcomes.items() if word != "ok"}
    return f"{outcomes['ok']} greeted after up to {waited:.1f} s, failed: {failed or 'none'}"


def test_a_restart_moves_nothing_and_refuses_nobody(
    rig: Rig, tmp_path: Path, counted: Counted
) -> None:
    machine = rig.machines[rig.active()]
    with _supervised(rig, machine) as systemd, _clients(rig, tmp_path) as outage:
        machine = _holder(rig, machine)
        client = _in_data(rig)
        began = time.monotonic()
        machine.balancer.process.send(signal.SIGTERM)
        _until_it_drains(machine)
        client.expect("250", "\r\n.")
        client.expect("421", "NOOP")
        client.close()
        assert machine.balancer.process.wait() == 0
        _start(rig, machine, systemd)
        back = time.monotonic() - began
        outage.until_steady(time.monotonic())
        held = rig.holders.over(began)
        counted(f"back after {back:.1f} s, {held.moves} moves; {_came_of(outage, began)}")
        assert (held.moves, held.nobody, held.dual) == (0, 0, 0)
        assert all(one.ok for one in outage.attempts())


def test_one_that_does_not_end_hands_over(rig: Rig, tmp_path: Path, counted: Counted) -> None:
    machine = rig.machines[rig.active()]
    with _supervised(rig, machine) as systemd, _clients(rig, tmp_path) as outage:
        machine = _holder(rig, machine)
        peer = rig.machines[other(machine.name)]
        stuck, idle = _in_data(rig), rig.networks.inside("cl", lambda: Client((VIRTUAL, PORT)))
        between = idle.result(LIMIT)
        between.expect("220")
        began = time.monotonic()
        machine.balancer.process.send(signal.SIGTERM)
        _until_it_drains(machine)
        between.expect("421", "EHLO late.test")
        between.close()
        systemd.until(lambda said: any("FDSTOREREMOVE" in line for line in said))
        until(lambda: rig.holders.only == peer.name, "the peer to have it")
        moved = next(one.at for one in rig.holders.over(began).changes[1:]) - began
        # What is left is ended while its address is there: nobody waits for what never comes.
        with pytest.raises((ConnectionResetError, AssertionError)):
            stuck.expect("250", "\r\n.")
        stuck.close()
        assert machine.balancer.process.wait() == 0
        ended = time.monotonic() - began
        outage.until_steady(time.monotonic())
        held = rig.holders.over(began)
        lost = [one for one in machine.events() if one["event"] == "sessions are lost"]
        counted(
            f"moved after {moved:.1f} s, ended after {ended:.1f} s, nobody had it for"
            f" {held.nobody * 1000:.0f} ms; {_came_of(outage, began)}"
        )
        assert (held.moves, held.dual) == (1, 0)
        assert _HANDOVER <= moved < _HANDOVER + 1.5
        assert "1 at this node" in str(lost[-1]["reason"])
        assert "sessions=1" in machine.balancer.process.err
        # Who waited is told before the address goes, and comes again.
        outcomes = Counter(one.outcome for one in outage.attempts())
        assert outcomes.keys() <= {"ok", "reset", "refused"}
        assert outcomes["refused"] < _RATE / 2


def test_a_stop_moves_it_at_once(rig: Rig, tmp_path: Path, counted: Counted) -> None:
    """Nobody keeps its sockets: whoever comes would be refused. Its last session ends with it."""
    machine = rig.machines[rig.active()]
    peer = rig.machines[other(machine.name)]
    with _clients(rig, tmp_path) as outage:
        client = _in_data(rig)
        until(lambda: machine.status()["nodes"][0]["sessions"] == 1, "the session to be known")
        machine.balancer.process.send(signal.SIGTERM)
        _until_it_drains(machine)
        client.expect("250", "\r\n.")
        client.expect("421", "NOOP")
        client.close()
        # A client that came while the address last moved may be left: it is gone as soon as TCP
        # sends again what it hasn't got, which takes seconds.
        assert machine.balancer.process.wait() == 0
        began = time.monotonic()
        until(lambda: rig.holders.only == peer.name, "the peer to have it")
        moved = rig.holders.over(began).changes[-1].at - began
        outage.until_steady(time.monotonic())
        counted(f"moved after {moved:.2f} s; {_came_of(outage, began)}")
        assert moved < 1.0
    machine.start_balancer()
    until(lambda: _serves(machine), "it to serve")


def test_one_that_stands_by_takes_nothing_while_it_drains(rig: Rig, counted: Counted) -> None:
    active = rig.machines[rig.active()]
    standby = rig.machines[other(active.name)]
    client = _in_data(rig, ADDRESSES[standby.name]["lan"])
    until(lambda: standby.status()["nodes"][0]["sessions"] == 1, "the session to be known")
    standby.balancer.process.send(signal.SIGTERM)
    why = f"the balancer of {standby.name} drains, or begins anew"
    until(lambda: any(why in one for one in active.alarms()), "the alarm")
    began = time.monotonic()
    assert active.command("switch") == (1, f"mailweir: {why}\n")
    code, words = standby.command("switch")
    assert (code, "drains and takes no new sessions" in words) == (1, True), words
    # Nor where the other one can serve as little.
    active.balancer.process.kill()
    until(lambda: "dataplane_ok" not in active.status()["nodes"][0]["flags"], "it to be missed")
    assert active.state() == "active"
    held = rig.holders.over(began)
    assert (held.moves, held.nobody) == (0, 0)
    counted(
        f"the active balancer killed beside one that drains: {held.moves} moves, switch refused"
    )
    active.balancer.process.wait()
    active.start_balancer()
    until(lambda: _serves(active), "it to serve")
    client.expect("250", "\r\n.")
    client.close()
    standby.balancer.process.wait()
    standby.start_balancer()
    until(lambda: not active.alarms() and _serves(standby), "the pair to be whole again")
    assert rig.active() == active.name


def _holder(rig: Rig, machine: Machine) -> Machine:
    """It has the address, if need be by a switch."""
    if rig.active() != machine.name:
        assert machine.command("switch")[0] == 0
        until(lambda: rig.holders.only == machine.name, "it to have the address")
        rig.active()
    return machine
