"""A pair of machines whose systemd runs the shipped units: what restarts, kills, stops and power
cuts cost clients there, and what `systemctl` says."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.mailweir.kernel_rig import polite
from harness.mailweir.run import Tree
from harness.networks.pair import (
    ADDRESSES,
    DEVICES,
    GATEWAY,
    NODES,
    SERVER,
    VIRTUAL,
    Link,
    Node,
    Pair,
    pair_networks,
)
from harness.pair.configuration import new_key
from harness.pair.holders import Holders, holders
from harness.pair.outage import Outage, gap, outage_clients_of
from harness.programs.systemd_node import SystemdNode, prepared, systemd_node
from harness.servers.scripted import serving_in
from harness.waiting import LIMIT, until

_PORT, _HEARTBEATS = 25, 5405
_HANDOVER = 10.0  # seconds: the default
_STARTED = "event=started"
_PACE = 0.05  # seconds between commands of a session
_UNITS = ("mailweir", "mailweir-ha")

pytestmark = [pytest.mark.timeout(180), pytest.mark.needs("iproute2", "nftables", "systemd")]
Counted = Callable[[str], None]


class Machines:
    """Both, and what is around them."""

    def __init__(self, networks: Pair, held: Holders, folder: Path) -> None:
        self.networks = networks
        self.held = held
        self.folder = folder
        self.nodes: dict[Node, SystemdNode] = {}
        self._power: dict[Node, ExitStack] = {}
        self._starts = 0

    def switch_on(self, node: Node, *, without: Link | None = None) -> None:
        """It boots; on one link it may have no carrier and no address."""
        self._starts += 1
        self.networks.revive(node)
        if without is not None:
            self.networks.unplug(node, without)
            self._address(node, without, "delete")
        self._power[node] = exits = ExitStack()
        booted = systemd_node(self.networks, node, self.folder / node, start=self._starts)
        self.nodes[node] = exits.enter_context(booted)

    def switch_off(self, node: Node) -> None:
        """Its power is gone, and what it had of addresses."""
        self.networks.kill(node, [])
        self._power.pop(node).close()
        del self.nodes[node]

    def mend(self, node: Node, link: Link) -> None:
        """The link comes after all."""
        self.networks.plug(node, link)
        self._address(node, link, "add")

    def _address(self, node: Node, link: Link, change: str) -> None:
        address = f"{ADDRESSES[node][link]}/24"
        self.networks.run(node, "ip", "address", change, address, "dev", DEVICES[link])

    def all_off(self) -> None:
        for node in list(self.nodes):
            self.switch_off(node)

    def active(self) -> SystemdNode:
        """The one that has the address, once the other could take over."""
        until(self._is_settled, "the pair to be settled", limit=60)
        return next(self.nodes[node] for node in NODES if node == self.held.only)

    def other(self, node: SystemdNode) -> SystemdNode:
        return next(one for one in self.nodes.values() if one is not node)

    @contextmanager
    def clients(self, name: str) -> Iterator[Outage]:
        before = self.networks.before("cl")
        with outage_clients_of(
            self.folder, (VIRTUAL, _PORT), before, name=name, limit=10.0
        ) as outage:
            outage.until_steady(seconds=0.5)
            yield outage

    @contextmanager
    def session(self) -> Iterator[list[str]]:
        """A client that was greeted and talks; the replies that it gets."""

        def connect() -> socket.socket:
            return socket.create_connection((VIRTUAL, _PORT), timeout=LIMIT)

        ended, replies = threading.Event(), ["220"]
        with self.networks.inside("cl", connect).result(LIMIT) as made:
            assert made.recv(4096).startswith(b"220")

            def talk() -> None:
                while not ended.wait(_PACE) and replies[-1] in ("220", "250"):
                    replies.append(_reply(made))
                made.close()

            thread = threading.Thread(target=talk)
            thread.start()
            try:
                yield replies
            finally:
                ended.set()
                thread.join()

    def _is_settled(self) -> bool:
        told = [_status(node) for node in self.nodes.values()]
        states = sorted(str(one.get("state")) for one in told)
        redundant = all(one.get("redundant") for one in told)
        return states == ["active", "backup"] and redundant and self.held.only is not None


def _status(node: SystemdNode) -> Tree:
    done = node.run("mailweir", "ha", "status", "--json")
    found: Tree = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    folder = tmp_path_factory.mktemp("systemd")
    key = new_key(folder / "ha.key").read_bytes()
    config = json.dumps(_configuration())
    with (
        pair_networks("systemd") as networks,
        serving_in(networks, "srv", (SERVER, _PORT), polite),
        holders(networks, VIRTUAL) as held,
        ExitStack() as exits,
    ):
        made = Machines(networks, held, folder)
        exits.callback(made.all_off)
        for node in NODES:
            own = prepared(node, folder, _UNITS)
            (own / "etc" / "mailweir" / "mailweir.yaml").write_text(config)
            file = own / "etc" / "mailweir" / "ha.key"
            file.touch(0o400)
            file.write_bytes(key)
            made.switch_on(node)
        yield made


def _configuration() -> Tree:
    links = {
        node: {link: f"{ADDRESSES[node][link]}:{_HEARTBEATS}" for link in DEVICES} for node in NODES
    }
    farm = {"servers": {"x": f"{SERVER}:{_PORT}"}, "check": {"every": "1s", "fast": "200ms"}}
    return {
        "forwarding": "relay",
        "listeners": {"mx": {"bind": [f"{VIRTUAL}:{_PORT}"], "pool": "farm"}},
        "pools": {"farm": farm},
        "ha": {
            "nodes": {node: {"links": links[node]} for node in NODES},
            "virtual": [{"address": f"{VIRTUAL}/24", "dev": DEVICES["lan"]}],
            "keys": {1: "/etc/mailweir/ha.key"},
            "gateway": [GATEWAY],
        },
    }


def test_a_restart_of_the_balancer(machines: Machines, counted: Counted) -> None:
    node = machines.active()
    with _seen(machines, "systemctl restart mailweir", counted) as seen:
        node.systemctl("restart", "mailweir")
    assert seen == Seen(session="421")
    assert machines.active() is node


def test_an_upgrade_of_the_balancer(machines: Machines, counted: Counted) -> None:
    """The pair doesn't notice, nor does a session that is relayed."""
    node = machines.active()
    before = node.shows("mailweir", "MainPID")
    with _seen(machines, "mailweir upgrade", counted) as seen:
        done = node.run("mailweir", "upgrade")
        assert done.returncode == 0, done.stderr
    assert seen == Seen(session="250")
    assert machines.active() is node
    until(lambda: node.shows("mailweir", "MainPID") != before, "systemd to know the new one")
    assert node.shows("mailweir", "NRestarts") == "0"


def test_a_kill_of_the_pairs_process(machines: Machines, counted: Counted) -> None:
    """systemd has it back long before the lease is over."""
    node = machines.active()
    starts = node.log("mailweir-ha").count(_STARTED)
    with _seen(machines, "kill -9 of mailweir ha", counted) as seen:
        assert node.run("kill", "-KILL", node.shows("mailweir-ha", "MainPID")).returncode == 0
        until(lambda: node.log("mailweir-ha").count(_STARTED) == starts + 1, "a restart")
        until(lambda: machines.held.now, "somebody to have the address")
    machines.active()
    assert seen.moves <= 1
    assert node.shows("mailweir", "NRestarts") == "0"


def test_a_stop_of_the_balancer(machines: Machines, counted: Counted) -> None:
    node = machines.active()
    peer = machines.other(node)
    with _seen(machines, "systemctl stop mailweir", counted) as seen:
        node.systemctl("stop", "mailweir")
        until(lambda: machines.held.only == peer.name, "the other one to have it")
    assert (seen.moves, seen.session) == (1, "421")
    assert seen.out < _HANDOVER / 2
    assert node.shows("mailweir", "Result") == "success"
    node.systemctl("start", "mailweir")
    assert machines.active() is peer


def test_a_stop_of_the_pairs_process(machines: Machines, counted: Counted) -> None:
    node = machines.active()
    peer = machines.other(node)
    with _seen(machines, "systemctl stop mailweir-ha", counted) as seen:
        node.systemctl("stop", "mailweir-ha")
        until(lambda: machines.held.only == peer.name, "the other one to have it")
    assert seen.moves == 1
    node.systemctl("start", "mailweir-ha")
    assert machines.active() is peer


def test_reloads(machines: Machines, counted: Counted) -> None:
    """What can't be used is refused, and for the balancer `systemctl` says so."""
    node = machines.active()
    file = node.folder / "etc" / "mailweir" / "mailweir.yaml"
    good = file.read_text()
    try:
        with _seen(machines, "systemctl reload of both", counted) as seen:
            for unit in _UNITS:
                node.systemctl("reload", unit)
            until(lambda: "event=reloaded" in node.log("mailweir-ha"), "the reload")
            file.write_text("listeners: {")
            assert node.run("systemctl", "reload", "mailweir").returncode != 0
            node.systemctl("reload", "mailweir-ha")
            until(lambda: "the reload is refused" in node.log("mailweir-ha"), "the refusal")
    finally:
        file.write_text(good)
    assert seen == Seen(session="250")
    assert [node.shows(unit, "ActiveState") for unit in _UNITS] == ["active", "active"]
    node.systemctl("reload", *_UNITS)
    assert machines.active() is node


def test_a_power_cut_with_the_cross_cable_dead(machines: Machines, counted: Counted) -> None:
    """The last: both were off. The one that comes has no address there, and no carrier."""
    was_active = machines.active()
    first, second = sorted(NODES, key=lambda name: machines.nodes[name] is not was_active)
    machines.all_off()
    began = time.monotonic()
    machines.switch_on(first, without="cross")
    node = machines.nodes[first]
    until(lambda: machines.held.only == first, "it to have the address", limit=30)
    counted(f"power cut, cross cable dead: served {time.monotonic() - began:.1f} s after power")
    assert [node.shows(unit, "ActiveState") for unit in _UNITS] == ["active", "active"]
    assert any("link cross can't be used" in one for one in _status(node)["alarms"])
    with machines.clients("after"):
        pass
    machines.mend(first, "cross")
    machines.switch_on(second)
    assert machines.active() is node
    until(lambda: not _status(node)["alarms"], "all links to be heard")


@dataclass
class Seen:
    """What clients saw of an event. A session talked meanwhile: what it heard last."""

    moves: int = 0
    refused: int = 0
    out: float = 0.0  # seconds
    session: str = ""


@contextmanager
def _seen(machines: Machines, what: str, counted: Counted) -> Iterator[Seen]:
    """The block ends when the event is over."""
    seen = Seen()
    with machines.clients(what.replace(" ", "-")) as outage, machines.session() as replies:
        began = time.monotonic()
        yield seen
        took = time.monotonic() - began
        outage.until_steady(time.monotonic(), seconds=0.5)
        held = machines.held.over(began)
        found = gap(outage.attempts(), began)
        seen.session = replies[-1]
    seen.moves, seen.refused, seen.out = held.moves, sum(found.failures.values()), found.out
    slowest = max(one.took for one in outage.attempts() if one.began + one.took >= began)
    counted(
        f"{what}: {took:.1f} s; moved {held.moves} times, nobody had it for {held.nobody:.2f} s;"
        f" {seen.refused} attempts failed {found.failures}, out for {found.out:.2f} s, the longest"
        f" wait {slowest:.2f} s; a session heard {seen.session} at last"
    )
    assert held.dual == 0, held


def _reply(session: socket.socket) -> str:
    """The code of the next reply, or that there is none."""
    try:
        session.sendall(b"NOOP\r\n")
        said = session.recv(4096)
    except ConnectionError:
        return "reset"
    except TimeoutError:
        return "silence"
    return said[:3].decode() or "closed"
