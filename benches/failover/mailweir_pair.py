"""mailweir's own pair: `mailweir run` and `mailweir ha run` on each node, at their defaults."""

from pathlib import Path

from benches.failover.contender import FARM, PORT
from benches.failover.programs import Programs

from harness.mailweir.run import COMMAND, write
from harness.networks.pair import Node, Pair
from harness.pair.configuration import new_key, pair_configuration
from harness.process import run
from mailweir.admin.client import ask
from mailweir.errors import MailweirError

# States of a node that serves, and of one that would at once.
_READY = ("active", "backup")


class Mailweir:
    """Both nodes. To switch, the active one is told to."""

    # Of `mailweir ha run`; None for its default.
    timers: str | None = None

    def __init__(self, pair: Pair, directory: Path) -> None:
        self.programs = Programs(pair, directory)
        self._key = new_key(directory / "ha.key")

    def start(self, node: Node) -> None:
        """Both read the same file."""
        folder = self.programs.folder(node)
        file = folder / "mailweir.yaml"
        more = {"timers": self.timers} if self.timers else {}
        write(file, pair_configuration(folder, node, self._key, FARM, PORT, **more))
        self.programs.run(node, "run", [*COMMAND, "run", "-c", file])
        self.programs.run(node, "ha", [*COMMAND, "ha", "run", "-c", file])

    def is_ready(self, node: Node) -> bool:
        """Whether the balancer has its server, and the node is active or waits beside its peer."""
        folder = self.programs.folder(node)
        try:
            health = ask(str(folder / "admin.sock"), "GET", "/api/v1/health")
            status = ask(str(folder / "ha.sock"), "GET", "/api/v1/status")
        except MailweirError:
            return False
        return bool(health["listening"] and health["up"]) and status["state"] in _READY

    def switch(self, node: Node) -> None:
        """As an operator does on the active node."""
        own = ["--socket", str(self.programs.folder(node) / "ha.sock")]
        done = run([*COMMAND, "ha", "switch", *own])
        assert done.returncode == 0, done.stderr


class Fast(Mailweir):
    """The same with the shorter timers."""

    timers = "fast"
