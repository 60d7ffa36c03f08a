"""mailweir between clients and servers that are packets alone."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.clients.smtpload import build
from harness.mailweir.kernel_rig import Rig, kernel_rig, rig_configuration
from harness.mailweir.run import Tree
from harness.networks.row import SOURCE, Row, pins, row
from harness.servers.packets import Flood, Packets, with_packet_servers
from harness.waiting import until

SOURCES = (SOURCE, "10.2.0.3", "10.2.0.4", "10.2.0.5")
_UP = 30.0


@dataclass(frozen=True)
class Site:
    """All of it, while it runs."""

    networks: Row
    packets: Packets
    rig: Rig
    pins: Path

    @property
    def pid(self) -> int:
        """Of the balancer."""
        return self.rig.balancer.pid

    def kernel_path(self) -> Tree:
        """What `status` says of it."""
        found: Tree = self.rig.balancer.status()["kernel_path"]
        return found

    def until_flows(self, count: int, limit: float) -> None:
        """Waits for so many."""
        until(lambda: self.kernel_path()["flows"] == count, f"{count} flows", limit=limit)


@dataclass(frozen=True)
class Around:
    """Networks, servers and a folder, whatever runs between."""

    networks: Row
    packets: Packets
    directory: Path
    config: Tree

    @contextmanager
    def balancer(self) -> Iterator[Site]:
        """mailweir once all its servers are up."""
        before = pins()
        with kernel_rig(self.networks, self.directory, self.config) as rig:
            # What a process before this one left is its own.
            (pinned,) = pins() - before or before
            site = Site(self.networks, self.packets, rig, pinned)
            until(partial(_all_are_up, rig), "all servers to be up", limit=_UP)
            yield site

    def lines(self) -> int:
        """In the session log."""
        with (self.directory / "sessions.log").open("rb") as log:
            return sum(1 for _ in log)


def _all_are_up(rig: Rig) -> bool:
    return {one["state"] for one in rig.balancer.servers().values()} == {"up"}


@contextmanager
def around(max_flows: int) -> Iterator[Around]:
    """Three servers, dialled from four addresses."""
    binary = build().with_name("packets")
    with ExitStack() as exits:
        directory = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="flows-")))
        networks = exits.enter_context(row("bench"))
        for address in SOURCES[1:]:
            add = ("ip", "address", "add", f"{address}/32", "dev", "servers")
            networks.run("l", *add)
        config = with_packet_servers(rig_configuration(directory, max_flows=max_flows), SOURCES)
        config["listeners"]["mx"]["timeouts"] = {"idle_client": "4h"}
        packets = Packets(networks, binary, directory)
        exits.enter_context(packets.serving())
        yield Around(networks, packets, directory, config)


def resting(count: int, part: int, first_port: int = 1024, rate: int = 3000) -> Flood:
    """Sessions that are there to rest: each part has addresses of its own."""
    return Flood(f"10.9.{16 * part}.1/1000", count, rate, first_port)
