"""keepalived by config/examples/keepalived.conf: it moves the addresses of both families by what
mailweir says of itself, and tells it. Needs root and the package keepalived.
"""

import shlex
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.mailweir.kernel_rig import polite
from harness.mailweir.run import COMMAND, Mailweir, Tree, configuration, mailweir
from harness.needs import needs, program
from harness.networks.pair import NODES, SERVER, VIRTUAL, VIRTUAL6, Node, Pair, pair_networks
from harness.pair.holders import Holders, holders
from harness.pair.outage import gap, outage_clients_of
from harness.process import Running, running
from harness.servers.scripted import serving_in
from harness.waiting import until

_EXAMPLE = Path(__file__).parents[2] / "config" / "examples" / "keepalived.conf"
_PORT = 2525
_SUBMISSION = 2526
_ELECTION = 40.0  # seconds
_ADVERTISEMENT = 1.0  # seconds from one to the next, keepalived's default
_TAKEOVER = 15.0
_RUNS = 6  # of scripts: three of each listener's, and two change a priority


@dataclass
class _Rig:
    pair: Pair
    v4: Holders
    v6: Holders
    directory: Path
    balancers: dict[Node, ExitStack]

    def active(self) -> Node | None:
        """Who has both addresses, and alone."""
        same = self.v4.only if self.v4.only == self.v6.only else None
        return next((node for node in NODES if node == same), None)

    def told(self, node: Node) -> list[str]:
        """The roles that mailweir was told on a node."""
        file = self.directory / node / "told"
        return file.read_text().split() if file.exists() else []

    def start(self, node: Node) -> Mailweir:
        """Its balancer, before the servers."""
        folder = self.directory / node
        run = mailweir(folder, _configuration(folder), self.pair.before(node))
        balancer = self.balancers[node].enter_context(run)
        until(lambda: balancer.server_is("mx", "up"), "the server of port 25 to be up")
        return balancer

    def close(self) -> None:
        """End the balancers."""
        for balancer in self.balancers.values():
            balancer.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[_Rig]:
    needs("keepalived")
    with (
        pair_networks("test-keepalived") as pair,
        serving_in(pair, "srv", (SERVER, _PORT), polite),
        holders(pair, VIRTUAL) as v4,
        holders(pair, VIRTUAL6) as v6,
        ExitStack() as stack,
    ):
        made = _Rig(pair, v4, v6, tmp_path, {node: ExitStack() for node in NODES})
        stack.callback(made.close)
        yield made


def test_the_addresses_go_where_a_balancer_can_serve(rig: _Rig, tmp_path: Path) -> None:
    with _servers_of_submission(rig), _nodes(rig):
        first, second = _roles(rig)
        with outage_clients_of(tmp_path, (VIRTUAL, _PORT), rig.pair.before("cl")) as outage:
            outage.until_steady()
            event = time.monotonic()
            rig.balancers[first].close()
            until(lambda: rig.active() == second, "the other node to take over", limit=_TAKEOVER)
            outage.until_steady(time.monotonic())
            seen = gap(outage.attempts(), event)
            print(f"from the end of the balancer to a greeting: {seen.gap:.2f} s, {seen.failures}")
            assert seen.gap < _TAKEOVER
            until(lambda: rig.told(first)[-1] == "backup", "the loss to be told")
            until(lambda: rig.told(second)[-1] == "active", "the takeover to be told")

            # It doesn't take the addresses back, and the last node keeps them whatever it lacks.
            rig.start(first)
            _passes(rig, first)
            assert rig.active() == second
            for node in NODES:
                rig.balancers[node].close()
            _waits_for_scripts(rig)
            assert rig.active() in NODES
            # By VRRP (RFC 9568, 6.4.3) both have it until the old one has heard of the new one.
            assert rig.v4.over(event).dual < _ADVERTISEMENT


def test_a_small_pool_that_is_dead_everywhere_moves_nothing(rig: _Rig) -> None:
    with _nodes(rig) as balancers:
        first, second = _roles(rig)
        event = time.monotonic()
        for node in NODES:
            asked = balancers[node].command("healthcheck", "--listener", "submission")
            assert (asked.returncode, asked.stdout) == (4, "pool small: no server is up\n")
            assert balancers[node].command("healthcheck", "--listener", "mx").returncode == 0
        _waits_for_scripts(rig)
        assert rig.v4.over(event).moves == 0
        # Of two nodes that lack something the address goes to the one that lacks less.
        told = balancers[first].command("maint", "farm/mx")
        assert "pool farm: no server takes new sessions: mx is in state maint" in told.stderr
        until(lambda: rig.active() == second, "the other node to take over", limit=_TAKEOVER)


def _roles(rig: _Rig) -> tuple[Node, Node]:
    """The active node and the other one, once both were told."""
    until(rig.active, "one node to have both addresses", limit=_ELECTION)
    first = rig.active()
    assert first is not None
    second: Node = "b" if first == "a" else "a"
    until(lambda: rig.told(first)[-1:] == ["active"], "the active node to be told")
    until(lambda: rig.told(second)[-1:] == ["backup"], "the other one to be told")
    return first, second


def _servers_of_submission(rig: _Rig) -> AbstractContextManager[object]:
    return serving_in(rig.pair, "srv", (SERVER, _SUBMISSION), polite)


@contextmanager
def _nodes(rig: _Rig) -> Iterator[dict[Node, Mailweir]]:
    with ExitStack() as stack:
        balancers = {}
        for node in NODES:
            (rig.directory / node).mkdir()
            balancers[node] = rig.start(node)
            stack.enter_context(_keepalived(rig, node))
        yield balancers


def _passes(rig: _Rig, node: Node) -> None:
    """Wait until keepalived has seen its scripts succeed often enough."""
    log = rig.directory / node / "keepalived.err"
    before = log.read_text().count("succeeded")
    until(lambda: log.read_text().count("succeeded") >= before + 2, "its scripts", limit=_TAKEOVER)


def _waits_for_scripts(rig: _Rig) -> None:
    """Until keepalived has asked long enough to act on what it hears."""
    asked = [rig.directory / node / "asked" for node in NODES]
    before = [file.read_text().count("\n") for file in asked]
    until(
        lambda: all(
            file.read_text().count("\n") >= least + _RUNS
            for file, least in zip(asked, before, strict=True)
        ),
        "keepalived to ask",
        limit=_TAKEOVER,
    )


def _configuration(folder: Path) -> Tree:
    config = configuration(folder, {"mx": f"{SERVER}:{_PORT}"})
    config["listeners"]["mx"]["bind"] = _shared(_PORT)
    config["listeners"]["submission"] = {"bind": _shared(_SUBMISSION), "pool": "small"}
    small = {"address": f"{SERVER}:{_SUBMISSION}", "proxy": "off"}
    config["pools"]["small"] = {**config["pools"]["farm"], "servers": {"small": small}}
    return config | {"forwarding": "relay"}


def _shared(port: int) -> list[str]:
    return [f"{VIRTUAL}:{port}", f"[{VIRTUAL6}]:{port}"]


@contextmanager
def _keepalived(rig: _Rig, node: Node) -> Iterator[Running]:
    """By the example, but for the paths; what is told is noted."""
    folder = rig.directory / node
    command = shlex.join(COMMAND)
    script = folder / "mailweir"
    script.write_text(
        f"#!/bin/sh\n"
        f'if [ "$1" = ha ]; then echo "$3" >> {folder}/told; exit 0; fi\n'
        f"echo >> {folder}/asked\n"
        f'MAILWEIR_SOCKET={folder}/admin.sock exec {command} "$@"\n'
    )
    script.chmod(0o755)
    text = _EXAMPLE.read_text().replace("/usr/bin/mailweir", str(script))
    if node == "b":
        text = text.replace("mail-a", "mail-b")
    (folder / "keepalived.conf").write_text(text)
    files = ["-f", folder / "keepalived.conf", "-p", folder / "pid", "-r", folder / "vrrp.pid"]
    argv = [*rig.pair.before(node), program("keepalived"), "-n", "-P", "-l", "-D", *map(str, files)]
    with running(argv, folder, "keepalived") as process:
        yield process
