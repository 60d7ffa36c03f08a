"""What becomes of a pair where the balancer of a node fails, and where files or links are odd."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.run import Tree, write
from harness.networks.pair import GATEWAY, NODES, VIRTUAL, VIRTUAL6, Node, pair_networks
from harness.pair.datagrams import heartbeats, opened
from harness.pair.rig import PORT, Machine, Rig, other, pair_rig
from harness.scale import count
from harness.waiting import LIMIT, until
from scenarios.relay import RELAYED, relay

Counted = Callable[[str], None]

_GRACE = count(2.0, 5.0)  # seconds; the latter is the default
_LONG_GRACE = "30s"  # longer than a process takes to begin on the busiest machine
_LATE = 1.0  # seconds; so much later it has to be over
_RELOADS = 100
_FEW = 10  # heartbeats


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A pair."""
    with pair_rig(tmp_path_factory.mktemp("pair"), run_grace=f"{_GRACE:.0f}s") as made:
        yield made


def connected(rig: Rig) -> Client:
    """A session through the virtual address, greeted."""
    client = rig.networks.inside("cl", lambda: Client((VIRTUAL, PORT))).result(LIMIT)
    client.expect("220")
    return client


def sessions(rig: Rig, node: Node) -> int:
    """How many the active node's HA process knows of."""
    own = rig.machines[node].status().get("nodes", [{}])[0]
    return int(own.get("sessions", -1))


def let_go(rig: Rig, event: float, node: str) -> float:
    """After how long the node had let go."""
    until(lambda: node not in rig.holders.now, "it to let go")
    return next(
        one.at - event for one in rig.holders.over(event).changes[1:] if node not in one.nodes
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("busy", [False, True])
def test_balancer_that_fails(
    rig: Rig, counted: Counted, number: signal.Signals, busy: bool
) -> None:
    """One that is gone without a session is missed at once; else it may come back for a while."""
    times = [_fail(rig, number, busy=busy) for _ in range(count(1, 10))]
    grace = _GRACE if busy or number == signal.SIGSTOP else 0.0
    what = f"{number.name}, {'with a session' if busy else 'idle'}, run_grace {_GRACE:.0f} s"
    counted(f"{what}: let go after {min(times):.2f} to {max(times):.2f} s, {len(times)} times")
    assert grace - 0.01 <= min(times)
    assert max(times) <= grace + _LATE


def _fail(rig: Rig, number: signal.Signals, *, busy: bool) -> float:
    """The active node's balancer gets a signal; after how long the node let go."""
    node = rig.active()
    machine = rig.machines[node]
    client = connected(rig) if busy else None
    until(lambda: sessions(rig, node) == int(busy), "the HA process to know of the session")
    failed = time.monotonic()
    machine.balancer.process.send(number)
    after = let_go(rig, failed, node)
    until(lambda: rig.holders.only == other(node), "the peer to have it")
    until(lambda: machine.state() == "backup", "the node to stand by")
    held = rig.holders.over(failed)
    assert (held.moves, held.dual) == (1, 0)
    assert "`mailweir run`" in machine.explain()
    if client is not None:
        client.close()
    if number == signal.SIGSTOP:
        machine.balancer.process.send(signal.SIGCONT)
    else:
        machine.balancer.process.wait()
        machine.start_balancer()
    until(lambda: "dataplane_ok" in machine.status()["nodes"][0]["flags"], "it to serve")
    return after


def test_balancer_that_is_back_within_the_grace(rig: Rig) -> None:
    machine = rig.machines[rig.active()]
    _have_grace(machine, _LONG_GRACE)
    with connected(rig):
        until(lambda: sessions(rig, machine.name) == 1, "the HA process to know of the session")
        failed = time.monotonic()
        machine.balancer.process.kill()
        until(lambda: "run_grace" in machine.explain(), "it to be missed")
        machine.start_balancer()
        until(lambda: "run_grace" not in machine.explain(), "it to be back")
    held = rig.holders.over(failed)
    assert (held.moves, held.nobody, held.dual) == (0, 0, 0)
    _have_grace(machine, f"{_GRACE:.0f}s")


def _have_grace(machine: Machine, grace: str) -> None:
    before = machine.status()["nodes"][0]["pair"]
    machine.change(lambda ha: ha.update(run_grace=grace))
    until(lambda: machine.status()["nodes"][0]["pair"] != before, "the other grace")


def test_other_timers(rig: Rig) -> None:
    """An alarm on both, and a refusal; but both go by what they hear of each other."""
    node = rig.active()
    peer = rig.machines[other(node)]
    began = time.monotonic()
    before = rig.machines[node].status()["nodes"][0]["pair"]
    rig.machines[node].change(lambda ha: ha.update(timers={"interval": "100ms", "dead": "1s"}))
    until(lambda: rig.machines[node].status()["nodes"][0]["pair"] != before, "the other timers")
    _differ(rig)
    rig.networks.kill(node, rig.machines[node].pids())
    until(lambda: rig.holders.only == peer.name, "the peer to have it")
    held = rig.holders.over(began)
    assert (held.moves, held.dual) == (1, 0)
    _begin(rig, node, timers={"interval": "200ms", "dead": "2s"})


def test_another_list_of_addresses(rig: Rig) -> None:
    """The same; each has those of its own list."""
    node = rig.active()
    peer = rig.machines[other(node)]
    began = time.monotonic()
    more = {"address": f"{VIRTUAL6}/64", "dev": "eth0"}
    peer.ha.stop()
    _edit(peer, lambda ha: ha["virtual"].append(more))
    peer.start_ha()
    assert rig.active() == node
    _differ(rig)
    rig.networks.kill(node, rig.machines[node].pids())
    until(lambda: rig.holders.only == peer.name, "the peer to have it")
    assert f"{VIRTUAL6}/64" in rig.networks.addresses(peer.name)
    held = rig.holders.over(began)
    assert (held.moves, held.dual) == (1, 0)
    _begin(rig, node, virtual=json.loads(peer.file.read_text())["ha"]["virtual"])
    assert not any("in the file of" in one for one in _alarms(rig.machines[node]))


def _differ(rig: Rig) -> None:
    """Both say so, and a switch is refused on both."""
    for machine in rig.machines.values():
        _says_that_it_differs(machine)
    assert len(rig.holders.now) == 1


def _says_that_it_differs(machine: Machine) -> None:
    until(lambda: any("in the file of" in one for one in _alarms(machine)), "the alarm")
    code, words = machine.command("switch")
    assert code == 1, words
    assert "in the file of" in words
    assert "make both files alike" in words


def _alarms(machine: Machine) -> list[str]:
    return list(machine.status().get("alarms", []))


def _edit(machine: Machine, edit: Callable[[Tree], object]) -> None:
    config = json.loads(machine.file.read_text())
    edit(config["ha"])
    write(machine.file, json.dumps(config))


def _begin(rig: Rig, node: Node, **part: object) -> None:
    """A node that was dead begins again, with this in its file."""
    machine = rig.machines[node]
    _edit(machine, lambda ha: ha.update(part))
    rig.networks.revive(node)
    machine.start_balancer()
    machine.start_ha()
    rig.active()


def test_reloads_that_change_nothing(rig: Rig, counted: Counted) -> None:
    """Whoever is told to read its file again goes on, and misses no word."""
    node = rig.active()
    for name in NODES:
        counted(f"{name}: {_reload(rig, name)}")
    assert rig.active() == node


def _reload(rig: Rig, name: Node) -> str:
    machine = rig.machines[name]
    seen, began = len(machine.events()), time.monotonic()
    ha = json.loads(machine.file.read_text())["ha"]

    def has_reloaded(times: int) -> bool:
        return machine.ha.err.count("event=reloaded") == times

    before = machine.ha.err.count("event=reloaded")

    with heartbeats(rig.networks, name) as heard:
        for number in range(_RELOADS):
            machine.ha.send(signal.SIGHUP)
            until(partial(has_reloaded, before + number + 1), "the reload")
        until(lambda: len(opened(heard, name, ha)) >= _FEW, "some heartbeats")
    passed = opened(heard, name, ha)
    numbers = [one.message.seq for one in passed]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert len({one.message.epoch for one in passed}) == 1
    held = rig.holders.over(began)
    assert (held.moves, held.nobody, held.dual) == (0, 0, 0)
    assert not any(" -> " in str(one["event"]) for one in machine.events()[seen:])
    longest = max(two.at - one.at for one, two in pairwise(passed))
    return f"{_RELOADS} reloads, {len(numbers)} heartbeats, {longest:.2f} s apart at most"


def test_heartbeats_that_are_held_up(tmp_path: Path, counted: Counted) -> None:
    """By up to half a second, so that they overtake each other; and some of them come twice."""

    def edit(node: Node, config: Tree) -> None:
        nodes = config["ha"]["nodes"]
        for name in NODES:
            del nodes[name]["links"]["cross"]
        peer = other(node)
        nodes[peer]["links"]["lan"] = f"{GATEWAY}:{RELAYED[peer]}"

    with pair_networks("held") as networks, relay(networks, longest=0.5, twice=0.1):
        with pair_rig(tmp_path, edit=edit, networks=networks) as rig:
            began = time.monotonic()
            seen = {name: len(rig.machines[name].events()) for name in NODES}
            seconds = count(5, 120)
            time.sleep(seconds)  # the case
            held = rig.holders.over(began)
            new = [one for name in NODES for one in rig.machines[name].events()[seen[name] :]]
    assert (held.moves, held.nobody, held.dual) == (0, 0, 0)
    assert not [one for one in new if " -> " in str(one["event"])]
    counted(f"{seconds} s: 0 moves, {sum(one['event'] == 'alarm' for one in new)} alarms")
