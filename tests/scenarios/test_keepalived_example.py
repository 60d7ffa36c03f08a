"""keepalived by config/examples/keepalived.conf: it moves the addresses of both families by what
mailweir says of itself, and tells it. Needs root and the package keepalived.
"""

import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.holders import Holders, holders
from harness.kernel_rig import polite
from harness.mailweir import COMMAND, Mailweir, Tree, configuration, mailweir
from harness.needs import needs, program
from harness.outage import gap, outage_clients_of
from harness.pair_networks import NODES, SERVER, VIRTUAL, VIRTUAL6, Node, Pair, pair_networks
from harness.process import Running, running
from harness.scripted import serving_in
from harness.waiting import until

_EXAMPLE = Path(__file__).parents[2] / "config" / "examples" / "keepalived.conf"
_PORT = 2525
_ELECTION = 40.0  # seconds
_TAKEOVER = 15.0


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
        """Its balancer, before the server."""
        folder = self.directory / node
        run = mailweir(folder, _configuration(folder), self.pair.before(node))
        balancer = self.balancers[node].enter_context(run)
        until(lambda: balancer.server_is("mx", "up"), "the server to be up")
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
        for node in NODES:
            (tmp_path / node).mkdir()
            made.start(node)
            stack.enter_context(_keepalived(made, node))
        until(made.active, "one node to have both addresses", limit=_ELECTION)
        yield made


def test_the_addresses_go_where_a_balancer_can_serve(rig: _Rig, tmp_path: Path) -> None:
    first = rig.active()
    assert first is not None
    second: Node = "b" if first == "a" else "a"
    until(lambda: rig.told(first)[-1:] == ["active"], "the active node to be told")
    until(lambda: rig.told(second)[-1:] == ["backup"], "the other one to be told")
    with outage_clients_of(tmp_path, (VIRTUAL, _PORT), rig.pair.before("cl")) as outage:
        outage.until_steady()
        event = time.monotonic()
        rig.balancers[first].close()
        until(lambda: rig.active() == second, "the other node to take over", limit=_TAKEOVER)
        outage.until_steady(time.monotonic())
        seen = gap(outage.attempts(), event)
        print(f"from the end of the balancer to a greeting: {seen.gap:.2f} s, {seen.failures}")
        assert seen.gap < _TAKEOVER
        until(lambda: rig.told(first)[-1] == "fault", "the fault to be told")
        until(lambda: rig.told(second)[-1] == "active", "the takeover to be told")

        rig.start(first)
        until(lambda: rig.told(first)[-1] == "backup", "the node to be ready", limit=_TAKEOVER)
        assert rig.active() == second
        held = rig.v4.over(event)
        assert (held.dual, held.moves) == (0.0, 1)


def _configuration(folder: Path) -> Tree:
    config = configuration(folder, {"mx": f"{SERVER}:{_PORT}"})
    bind = [f"{VIRTUAL}:{_PORT}", f"[{VIRTUAL6}]:{_PORT}"]
    config["listeners"]["mx"]["bind"] = bind
    return config | {"forwarding": "relay"}


@contextmanager
def _keepalived(rig: _Rig, node: Node) -> Iterator[Running]:
    """By the example, but for the paths; what is told is noted."""
    folder = rig.directory / node
    command = shlex.join(COMMAND)
    script = folder / "mailweir"
    script.write_text(
        f"#!/bin/sh\n"
        f'if [ "$1" = ha ]; then echo "$3" >> {folder}/told; exit 0; fi\n'
        f'MAILWEIR_SOCKET={folder}/admin.sock exec {command} "$@"\n'
    )
    script.chmod(0o755)
    text = _EXAMPLE.read_text().replace("/usr/bin/mailweir", str(script))
    if node == "b":
        text = text.replace("priority 101", "priority 100").replace("mail-a", "mail-b")
    (folder / "keepalived.conf").write_text(text)
    files = ["-f", folder / "keepalived.conf", "-p", folder / "pid", "-r", folder / "vrrp.pid"]
    argv = [*rig.pair.before(node), program("keepalived"), "-n", "-P", "-l", "-D", *map(str, files)]
    with running(argv, folder, "keepalived") as process:
        yield process
