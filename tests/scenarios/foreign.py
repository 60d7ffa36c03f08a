"""Clients and servers on a TCP stack that isn't Linux's, with addresses that no kernel has."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.clients.dialogue import Address
from harness.networks.offloads import turn_off
from harness.networks.row import LEGS, Row
from harness.process import Running, run, running
from harness.waiting import LIMIT, until

# In the networks of clients and of servers.
ADDRESSES = {"c": "10.1.0.7", "s": "10.2.0.7"}


@dataclass(frozen=True)
class Talk:
    """A session as one end saw it: hashes of what it said and heard; a client's outcome."""

    said: str
    heard: str
    outcome: str = ""


@dataclass(frozen=True)
class Wire:
    """What became of the segments that one end sent, and of frames that came to it, as it tells at
    its end or in a pause.
    """

    passed: dict[str, int]
    delayed: dict[str, int]
    frames: dict[str, int]

    @property
    def lost_for_want_of_room(self) -> int:
        """Frames that this end lost though none of its habits says so."""
        return sum(self.frames.values()) + self.delayed["lost"]

    def __str__(self) -> str:
        of_passed = ("lost", "twice", "swapped")
        figures = [f"{self.passed[name]} {name}" for name in of_passed if self.passed[name]]
        if overtaken := self.delayed["overtaken"]:
            figures.append(f"{overtaken} overtaken")
        return ", ".join([f"{self.passed['segments']} segments", *figures])


@dataclass(frozen=True)
class Foreign:
    """The program, in these networks."""

    binary: Path
    networks: Row

    def clients(self, server: Address, habits: str, *more: str) -> list[Talk]:
        """What each session was of clients with these habits."""
        talks, _ = self.clients_and_wire(server, habits, *more)
        return talks

    def clients_and_wire(
        self, server: Address, habits: str, *more: str, limit: float = 3 * LIMIT
    ) -> tuple[list[Talk], Wire]:
        """The same, and what became of what they sent."""
        what = ("client", "--connect", "{}:{}".format(*server), *more)
        done = run([*self._command("c", habits), *what], limit=limit)
        assert done.returncode in (0, 1), done.stderr
        return _talks(done.stdout), _wires(done.stdout)[-1]

    @contextmanager
    def sink(self, directory: Path, port: int, habits: str, *more: str) -> Iterator["Sink"]:
        """Servers with these habits."""
        command = [*self._command("s", habits), "sink", "--port", str(port), *more]
        with running(command, directory, "foreign") as process:
            process.until(lambda: "listening" in process.out, "the sink to listen")
            yield Sink(process)

    def _command(self, network: str, habits: str) -> list[str | Path]:
        device, *_ = LEGS[network]
        # It hears no sums and no segments but those that are on the wire.
        self.networks.inside("l", lambda: turn_off(device)).result(LIMIT)
        place = ("--interface", "balancer", "--address", ADDRESSES[network])
        return [*self.networks.before(network), self.binary, *place, *habits.split()]


@dataclass(frozen=True)
class Sink:
    """Servers that run."""

    process: Running

    def talks(self) -> list[Talk]:
        """The sessions that are over."""
        return _talks(self._told())

    def wire(self) -> Wire:
        """What became of what they sent, once none is under way."""
        until(lambda: '"wire"' in self._told().rpartition("\n")[2], "all sessions to be over")
        return _wires(self._told())[-1]

    def _told(self) -> str:
        """Whole lines, behind the first."""
        return self.process.out.partition("\n")[2].rpartition("\n")[0]


def _talks(lines: str) -> list[Talk]:
    told = [json.loads(line) for line in lines.splitlines()]
    return [Talk(**one) for one in told if "wire" not in one]


def _wires(lines: str) -> list[Wire]:
    told = [json.loads(line) for line in lines.splitlines()]
    return [Wire(**one["wire"]) for one in told if "wire" in one]
