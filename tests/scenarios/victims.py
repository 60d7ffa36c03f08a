"""A balancer on the kernel path in a test build: it dies, hangs or panics where it is told to, and
what lingers of its flows is gone after a second.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.mailweir.kernel_rig import PORT
from harness.networks.row import LISTENER, SERVER, Row
from harness.process import Running, running

LOG = "sessions.log"
# Towards its server.
PORTS = 101


@dataclass(frozen=True)
class Counts:
    """What it says of itself, since it began or now."""

    active: int = 0
    flows: int = 0
    places: int = 0
    found: int = 0
    handed_over: int = 0
    lingering: int = 0
    lost: int = 0
    restarts: int = 0
    keepalives: int = 0
    unanswered: int = 0

    @property
    def has_nothing(self) -> bool:
        """No session, and no place of one."""
        return (self.active, self.flows, self.places) == (0, 0, 0)


@dataclass(frozen=True)
class Victim:
    """The program; its log is in a folder of the test."""

    binary: Path
    networks: Row
    directory: Path

    def argv(self, step: str, before: Sequence[str | Path] = ()) -> list[str | Path]:
        """Its command; `before` begins that."""
        ends = [f"{LISTENER}:{PORT}", f"{SERVER}:{PORT}"]
        program: list[str | Path] = [self.binary, step, *ends, self.directory / LOG]
        return [*self.networks.before("l"), *before, *program]

    @contextmanager
    def runs(self, name: str, step: str, before: Sequence[str | Path] = ()) -> Iterator[Running]:
        """The process, once it is ready."""
        with running(self.argv(step, before), self.directory, name) as process:
            process.until(lambda: "ready" in process.out, "it to be ready")
            yield process


def counts(process: Running) -> Counts | None:
    """What it said last; nothing before it did."""
    *lines, _ = process.out.split("\n")
    return Counts(*map(int, lines[-1].split())) if lines[-1] != "ready" else None
