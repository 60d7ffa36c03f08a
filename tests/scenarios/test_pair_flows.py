"""The process that balances is killed on the active node of a pair while sessions go on in the
kernel: back within its grace nobody notices, and else the other node takes over and says why.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from harness.clients.smtpload import Smtpload, Source
from harness.mailweir.run import Tree
from harness.networks.pair import NODES, SERVER, VIRTUAL, Node
from harness.networks.row import bpf_files
from harness.pair.rig import PORT, Machine, Rig, other, pair_rig
from harness.programs.supervisor import supervisor
from harness.waiting import LIMIT, until

_SENDERS = 200
_GRACE = 5.0  # seconds, the default
_LONG_GRACE = "30s"  # longer than a process takes to begin on the busiest machine
_LATE = 1.0  # seconds; so much later the addresses have to be the peer's
_FARM = 2525  # the servers' port

Counted = Callable[[str], None]

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A pair on the kernel path, before servers that may be there."""
    bpf_files()

    def edit(_node: Node, config: Tree) -> None:
        config["forwarding"] = "kernel"
        config["pools"]["farm"]["servers"]["mx"]["address"] = f"{SERVER}:{_FARM}"
        config["pools"]["farm"]["check"] = {"kind": "tcp", "every": "1s", "rise": 1}

    with pair_rig(tmp_path_factory.mktemp("pair"), edit=edit, run_grace=_LONG_GRACE) as made:
        yield made


def sending(rig: Rig, folder: Path, binary: Path, messages: int) -> AbstractContextManager[Source]:
    """So many senders, with a session each through the virtual address."""
    for machine in rig.machines.values():
        until(partial(machine.balancer.server_is, "mx", "up"), "the server to be up")
    load = [f"--sessions={_SENDERS}", f"--concurrency={_SENDERS}", f"--messages={messages}"]
    clients = Smtpload(binary, folder, rig.networks.before("cl"))
    return clients.source("senders", (VIRTUAL, PORT), *load, "--think=100ms")


def servers(rig: Rig, folder: Path, binary: Path) -> Smtpload:
    """Where they run."""
    return Smtpload(binary, folder, rig.networks.before("srv"))


def _until_all_are_known(machine: Machine) -> None:
    """All sessions are in the kernel, and the HA process has heard of them."""
    flows = partial(machine.balancer.metric, "mailweir_kernel_path_flows")
    until(lambda: flows() == _SENDERS, "all to be flows")
    until(lambda: machine.status()["nodes"][0]["sessions"] >= _SENDERS, "all to be known")


def test_balancer_is_killed_and_back(
    rig: Rig, tmp_path: Path, smtpload_binary: Path, counted: Counted
) -> None:
    """No session is lost, and the address stays where it is."""
    farm = servers(rig, tmp_path, smtpload_binary)
    with (
        farm.sink("sink", "--hash", listen=(f"{SERVER}:{_FARM}",)) as sink,
        sending(rig, tmp_path, smtpload_binary, 100) as senders,
        supervisor(tmp_path) as systemd,
    ):
        machine = rig.machines[rig.active()]
        _until_all_are_known(machine)
        began = time.monotonic()
        machine.balancer.process.kill()
        machine.start_balancer(*systemd.before())
        until(machine.balancer.is_listening, "the next process")
        away = time.monotonic() - began
        adopted = partial(machine.balancer.metric, "mailweir_kernel_path_adopted_total")
        until(lambda: adopted() == _SENDERS, "all to be adopted")
        sent = senders.sent(limit=LIMIT + 60)
        held = rig.holders.over(began)
        report = sink.report()
    counted(
        f"{_SENDERS} senders, `mailweir run` away for {away:.1f} s: {sent.ok} ok, {sent.failed}"
        f" failed, {_SENDERS} adopted, {held.moves} moves"
    )
    assert (held.moves, held.dual, held.nobody) == (0, 0, 0)
    assert (sent.ok, sent.failed) == (_SENDERS, 0)
    ids = report["message_ids"]
    assert (ids["distinct"], ids["duplicates"]) == (sent.acknowledged, {})


def test_balancer_is_killed_and_stays_away(
    rig: Rig, tmp_path: Path, smtpload_binary: Path, counted: Counted
) -> None:
    """After the grace the other node takes over, and both say why in a sentence."""
    for name in NODES:
        rig.machines[name].change(lambda ha: ha.update(run_grace=f"{_GRACE:.0f}s"))
    node = rig.active()
    machine, peer = rig.machines[node], rig.machines[other(node)]
    farm = servers(rig, tmp_path, smtpload_binary)
    with (
        farm.sink("sink", listen=(f"{SERVER}:{_FARM}",)),
        sending(rig, tmp_path, smtpload_binary, 10_000),
    ):
        _until_all_are_known(machine)
        began = time.monotonic()
        machine.balancer.process.kill()
        until(lambda: "run_grace" in machine.explain(), "it to be missed")
        missed = machine.explain()
        until(lambda: rig.holders.only == peer.name, "the peer to have it")
        held = rig.holders.over(began)
        until(lambda: machine.state() == "backup", "the node to stand by")
        told, takes = machine.explain(), peer.explain()
    after = held.changes[1].at - began
    counted(f"{_SENDERS} sessions, `mailweir run` gone: let go after {after:.2f} s; {takes}")
    assert (held.moves, held.dual) == (1, 0)
    assert _GRACE <= after <= _GRACE + _LATE
    assert missed.endswith(
        " Its balancer isn't well: `mailweir run` doesn't answer; it has 5s (run_grace) to come"
        " back."
    )
    assert told.endswith(
        " and can't take over: `mailweir run` hasn't answered for 5 s, longer than run_grace."
    )
    assert takes.endswith(
        f"; it took over because {node} released the addresses (its balancer doesn't serve)."
    )
