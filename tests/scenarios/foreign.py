"""Clients and servers on a TCP stack that isn't Linux's, with addresses that no kernel has."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.clients.dialogue import Address
from harness.networks.row import LEGS, Row
from harness.process import Running, run, running
from harness.waiting import LIMIT
from scenarios.offloads import turn_off

# In the networks of clients and of servers.
ADDRESSES = {"c": "10.1.0.7", "s": "10.2.0.7"}


@dataclass(frozen=True)
class Talk:
    """A session as one end saw it: hashes of what it said and heard; a client's outcome."""

    said: str
    heard: str
    outcome: str = ""


@dataclass(frozen=True)
class Foreign:
    """The program, in these networks."""

    binary: Path
    networks: Row

    def clients(self, server: Address, habits: str, *more: str) -> list[Talk]:
        """What each session was of clients with these habits."""
        what = ("client", "--connect", "{}:{}".format(*server), *more)
        done = run([*self._command("c", habits), *what], limit=3 * LIMIT)
        assert done.returncode in (0, 1), done.stderr
        return _talks(done.stdout)

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
        return _talks(self.process.out.partition("\n")[2])


def _talks(lines: str) -> list[Talk]:
    return [Talk(**json.loads(line)) for line in lines.splitlines()]
