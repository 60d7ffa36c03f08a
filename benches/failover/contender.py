"""What a pair of nodes has to do to be measured: one class for each kind of pair."""

from pathlib import Path
from typing import Protocol

from benches.failover.programs import Programs

from harness.networks.pair import SERVER, VIRTUAL, Node, Pair

PORT = 2525
ADDRESS = (VIRTUAL, PORT)  # where clients connect
FARM = (SERVER, PORT)  # one server for both nodes


class Contender(Protocol):
    """Two nodes that share VIRTUAL and pass connections to it on to FARM."""

    programs: Programs

    def __init__(self, pair: Pair, directory: Path) -> None: ...

    def start(self, node: Node) -> None:
        """Whatever isn't running there runs; after a kill and after a switch as well."""

    def is_ready(self, node: Node) -> bool:
        """Whether it has the address, or could take it over at this moment."""

    def switch(self, node: Node) -> None:
        """What an operator does to have the other node take over. It may return before that."""
