"""Clients and servers that are packets alone, around mailweir: as many sessions as are wanted.

They have addresses that no kernel has, behind a router that isn't there either.
"""

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.mailweir.kernel_rig import PORT
from harness.mailweir.run import Tree
from harness.networks.offloads import turn_off
from harness.networks.row import LEGS, LISTENER, Row
from harness.process import Running, running
from harness.waiting import LIMIT

SERVERS = ("10.8.0.1", "10.8.0.2", "10.8.0.3")
# Where each network's addresses are, and who leads there.
_BEHIND = {"c": ("10.9.0.0/16", "10.1.0.7"), "s": ("10.8.0.0/24", "10.2.0.7")}
_NOBODY = "02:00:00:00:25:07"
# The device is the same in both networks.
_DEVICE = "balancer"


@dataclass(frozen=True)
class Flood:
    """Sessions of one program: where their addresses begin, and how many of these there are."""

    addresses: str
    sessions: int
    rate: int
    first_port: int = 1024
    messages: int = 1

    def arguments(self) -> list[str]:
        """Of the program."""
        return [
            f"--addresses={self.addresses}",
            f"--first-port={self.first_port}",
            f"--sessions={self.sessions}",
            f"--rate={self.rate}",
            f"--messages={self.messages}",
        ]

    @property
    def seconds(self) -> float:
        """That they take at least to begin."""
        return self.sessions / self.rate


class Clients:
    """Clients that run."""

    def __init__(self, process: Running, flood: Flood) -> None:
        self._process = process
        self._flood = flood
        self._limit = LIMIT + 2 * flood.seconds
        self.pid = process.pid

    def rest(self) -> Tree:
        """What is said once all are at rest."""
        self._process.until(lambda: "\n" in self._process.out, "all to rest", limit=self._limit)
        return said(self._process, 0)

    def go_on(self) -> None:
        """They rest no more."""
        self._process.send(signal.SIGTERM)

    def report(self) -> Tree:
        """What has become of them, once they are all over."""
        code = self._process.wait(self._limit)
        assert code in (0, 1), self._process.err
        return said(self._process, -1)


def said(process: Running, line: int) -> Tree:
    """A line of what the program said."""
    found: Tree = json.loads(process.out.splitlines()[line])
    return found


class Packets:
    """The program, in these networks."""

    def __init__(self, networks: Row, binary: Path, directory: Path) -> None:
        self._networks = networks
        self._binary = binary
        self._directory = directory
        self._number = 0
        for network in LEGS:
            self._lead(network)

    @contextmanager
    def serving(self) -> Iterator[Running]:
        """All servers, in one program; it says what it has heard when it ends."""
        addresses = [f"--address={address}" for address in SERVERS]
        argv = [*self._command("s", "serve"), *addresses, f"--port={PORT}"]
        with running(argv, self._directory, "servers") as process:
            process.until(lambda: "listening" in process.out, "the servers to listen")
            yield process

    @contextmanager
    def clients(self, flood: Flood, *more: str) -> Iterator[Clients]:
        """Clients of the listener."""
        self._number += 1
        there = [f"--router={self._balancer('c')}", f"--to={LISTENER}:{PORT}"]
        argv = [*self._command("c", "clients"), *there, *flood.arguments(), *more]
        with running(argv, self._directory, f"clients{self._number}") as process:
            yield Clients(process, flood)

    def _command(self, network: str, mode: str) -> list[str | Path]:
        return [*self._networks.before(network), self._binary, mode, f"--interface={_DEVICE}"]

    def _lead(self, network: str) -> None:
        """The balancer knows who is behind that network; what it sends there is whole."""
        (leg, *_), (behind, router) = LEGS[network], _BEHIND[network]
        self._networks.inside("l", partial(turn_off, leg)).result(LIMIT)
        neighbour = ["ip", "neighbour", "add", router, "lladdr", _NOBODY, "dev", leg]
        self._networks.run("l", *neighbour, "nud", "permanent")
        self._networks.run("l", "ip", "route", "add", behind, "via", router, "dev", leg)

    def _balancer(self, network: str) -> str:
        """The Ethernet address of its side."""
        leg, *_ = LEGS[network]
        (link,) = json.loads(self._networks.run("l", "ip", "-json", "link", "show", "dev", leg))
        return str(link["address"])


def with_packet_servers(config: Tree, sources: Sequence[str] = ()) -> Tree:
    """The same configuration with these servers."""
    one = {"proxy": "off", **({"source": list(sources)} if sources else {})}
    named = zip("abc", SERVERS, strict=True)
    servers = {name: {"address": f"{address}:{PORT}", **one} for name, address in named}
    config["pools"]["farm"]["servers"] = servers
    return config
