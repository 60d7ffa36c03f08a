"""Machines on one Ethernet segment: networks of their own, joined by a bridge, each with `eth0`.

Needs root and iproute2. Named by this process, so that several runs don't meet.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.needs import needs, program
from harness.networks.named import NamedNetworks
from harness.waiting import LIMIT, Value, until

_SWITCH = "switch"


class Segment(NamedNetworks):
    """The machines by their names; their addresses are 192.0.2.N and 2001:db8::N from 1 on."""

    def __init__(self, machines: tuple[str, ...]) -> None:
        super().__init__("mwha")
        self._machines = machines

    def ip(self, machine: str, *arguments: str) -> str:
        """What `ip` says on a machine."""
        return self.run(machine, program("ip"), *arguments)

    def addresses(self, machine: str) -> list[str]:
        """What a machine's eth0 has, as ADDRESS/LENGTH; without those that are still checked."""
        shown = self.ip(machine, "-oneline", "address", "show", "dev", "eth0", "-tentative")
        return [line.split()[3] for line in shown.splitlines()]

    def mac(self, machine: str) -> str:
        """The hardware address of its eth0."""
        return self.ip(machine, "-oneline", "link", "show", "dev", "eth0").split("link/ether ")[1][
            :17
        ]

    def setting(self, machine: str, name: str, value: str) -> None:
        """Set a `sysctl` of a machine's network, by its path."""
        self.inside(machine, lambda: Path("/proc/sys", name).write_text(value)).result(LIMIT)

    def unplug(self, machine: str) -> None:
        """Its cable is out."""
        self.ip(_SWITCH, "link", "set", f"port-{machine}", "down")

    def plug(self, machine: str) -> None:
        """Its cable is in."""
        self.ip(_SWITCH, "link", "set", f"port-{machine}", "up")

    def on(self, machine: str, task: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """What a coroutine returns that runs on a machine."""
        return self.inside(machine, lambda: asyncio.run(task())).result()

    def forget(self, *addresses: str) -> None:
        """No machine has these."""
        for machine in self._machines:
            for address in set(self.addresses(machine)).intersection(addresses):
                self.ip(machine, "address", "delete", address, "dev", "eth0")

    def connect(self, machine: str) -> None:
        """Give it its card, or another one where that is gone."""
        self._plug_in(machine, "eth0", f"port-{machine}")
        number = self._machines.index(machine) + 1
        self.set_up(
            machine,
            "link set eth0 up",
            f"address add 192.0.2.{number}/24 dev eth0",
            f"address add 2001:db8::{number}/64 dev eth0 nodad",
        )

    def connect_again(self, machine: str, device: str) -> None:
        """One more card for it, without an address, and up."""
        self._plug_in(machine, device, f"port-{machine}-{device}")
        self.set_up(machine, f"link set {device} up")

    def _plug_in(self, machine: str, device: str, port: str) -> None:
        peer = f"peer name {device} netns {self.name(machine)}"
        self.set_up(
            _SWITCH, f"link add {port} type veth {peer}", f"link set {port} up master bridge"
        )

    @contextmanager
    def built(self) -> Iterator[None]:
        """All of it, until the block ends."""
        with self.made((_SWITCH, *self._machines)):
            self.set_up(_SWITCH, "link add bridge type bridge", "link set bridge up")
            for name in self._machines:
                self.connect(name)
            yield


async def heard(condition: Callable[[], Value], what: str) -> Value:
    """As `until`, while the event loop goes on."""
    return await asyncio.to_thread(until, condition, what)


@contextmanager
def segment(*machines: str) -> Iterator[Segment]:
    """The machines, connected and gone afterwards."""
    needs("iproute2", "procps")
    made = Segment(machines)
    with made.built():
        yield made
