"""The programs of both nodes: started in their networks where they don't run, and ended with it.

Used by the contenders.
"""

import io
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr
from pathlib import Path

from harness.machine.proc import children
from harness.networks.pair import Node, Pair
from harness.process import Running, running


class Programs:
    """By node and name. What a program writes goes to a folder of its node, anew at each start."""

    def __init__(self, pair: Pair, directory: Path) -> None:
        self._pair = pair
        self._directory = directory
        self._started: dict[tuple[Node, str], tuple[Running, ExitStack]] = {}

    def folder(self, node: Node) -> Path:
        """What a node's disk is."""
        folder = self._directory / node
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def run(self, node: Node, name: str, argv: Sequence[str | Path]) -> None:
        """Start it, unless it runs."""
        if self.runs(node, name):
            return
        self.end(node, name)
        stack = ExitStack()
        command = [*self._pair.before(node), *argv]
        program = stack.enter_context(running(command, self.folder(node), name))
        self._started[node, name] = program, stack

    def runs(self, node: Node, name: str) -> bool:
        """Whether it was started and hasn't ended."""
        found = self._started.get((node, name))
        return found is not None and found[0].exit_code is None

    def find(self, node: Node, name: str) -> Running:
        """One that was started."""
        return self._started[node, name][0]

    def check(self) -> None:
        """Fails where one has ended, with what it said."""
        for (node, name), (program, _) in self._started.items():
            code, said = program.exit_code, program.err[-2000:]
            assert code is None, f"{name} of node {node} ended with {code}:\n{said}"

    def pids(self, node: Node) -> list[int]:
        """Of all that run there, and of what they have started."""
        roots = [one.pid for (at, name), (one, _) in self._started.items() if at == node]
        return [pid for root in roots for pid in (root, *_below(root))]

    def end(self, node: Node, name: str) -> None:
        """End it, gently."""
        found = self._started.pop((node, name), None)
        if found:
            # It would be shown, and most are ended on purpose here.
            with redirect_stderr(io.StringIO()):
                found[1].close()

    def close(self) -> None:
        """End them all."""
        for node, name in list(self._started):
            self.end(node, name)


def _below(pid: int) -> list[int]:
    try:
        return [one for child in children(pid) for one in (child, *_below(child))]
    except FileNotFoundError:
        return []  # it has ended since
