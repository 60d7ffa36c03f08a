"""Machines on one Ethernet segment: networks of their own, joined by a bridge, each with `eth0`.

Needs root and iproute2. Named by this process, so that several runs don't meet.
"""

import asyncio
import ctypes
import os
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from harness.needs import missing, needs, program
from harness.process import run
from harness.waiting import until

_CLONE_NEWNET = 0x40000000
_SWITCH = "switch"

Value = TypeVar("Value")


class Segment:
    """The machines by their names; their addresses are 192.0.2.N and 2001:db8::N from 1 on."""

    def __init__(self, machines: tuple[str, ...]) -> None:
        self._prefix = f"mwha-{os.getpid()}"
        self._machines = machines

    def path(self, machine: str) -> str:
        """The file of a machine's network."""
        return f"/run/netns/{self._prefix}-{machine}"

    def before(self, machine: str) -> list[str]:
        """The beginning of a command that is run on a machine."""
        return [program("nsenter"), f"--net={self.path(machine)}"]

    def run(self, machine: str, *command: str) -> str:
        """What a program says that is run on a machine."""
        done = run([*self.before(machine), *command])
        assert done.returncode == 0, f"{machine}: {' '.join(command)}: {done.stderr}"
        return done.stdout

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
        self.inside(machine, lambda: Path("/proc/sys", name).write_text(value))

    def unplug(self, machine: str) -> None:
        """Its cable is out."""
        self.ip(_SWITCH, "link", "set", f"port-{machine}", "down")

    def plug(self, machine: str) -> None:
        """Its cable is in."""
        self.ip(_SWITCH, "link", "set", f"port-{machine}", "up")

    def inside(self, machine: str, task: Callable[[], Value]) -> Value:
        """What a task returns that a thread, and what it starts, runs on a machine."""
        future: Future[Value] = Future()

        def work() -> None:
            try:
                enter(self.path(machine))
                future.set_result(task())
            except BaseException as error:
                future.set_exception(error)

        Thread(target=work, daemon=True).start()
        return future.result()

    def on(self, machine: str, task: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """What a coroutine returns that runs on a machine."""
        return self.inside(machine, lambda: asyncio.run(task()))

    def forget(self, *addresses: str) -> None:
        """No machine has these."""
        for machine in self._machines:
            for address in set(self.addresses(machine)).intersection(addresses):
                self.ip(machine, "address", "delete", address, "dev", "eth0")

    def connect(self, machine: str) -> None:
        """Give it its card, or another one where that is gone."""
        port = f"port-{machine}"
        peer = ["peer", "name", "eth0", "netns", f"{self._prefix}-{machine}"]
        self.ip(_SWITCH, "link", "add", port, "type", "veth", *peer)
        self.ip(_SWITCH, "link", "set", port, "up", "master", "bridge")
        self.ip(machine, "link", "set", "eth0", "up")
        number = self._machines.index(machine) + 1
        self.ip(machine, "address", "add", f"192.0.2.{number}/24", "dev", "eth0")
        self.ip(machine, "address", "add", f"2001:db8::{number}/64", "dev", "eth0", "nodad")

    def connect_again(self, machine: str, device: str) -> None:
        """One more card for it, without an address, and up."""
        port = f"port-{machine}-{device}"
        peer = ["peer", "name", device, "netns", f"{self._prefix}-{machine}"]
        self.ip(_SWITCH, "link", "add", port, "type", "veth", *peer)
        self.ip(_SWITCH, "link", "set", port, "up", "master", "bridge")
        self.ip(machine, "link", "set", device, "up")

    def build(self) -> None:
        """Make it all."""
        for name in (_SWITCH, *self._machines):
            done = run([program("ip"), "netns", "add", f"{self._prefix}-{name}"])
            if done.returncode:
                missing(f"needs networks of its own: {done.stderr}")
            self.ip(name, "link", "set", "lo", "up")
        self.ip(_SWITCH, "link", "add", "bridge", "type", "bridge")
        self.ip(_SWITCH, "link", "set", "bridge", "up")
        for name in self._machines:
            self.connect(name)

    def remove(self) -> None:
        """Nothing is left of it."""
        for name in (*self._machines, _SWITCH):
            run([program("ip"), "netns", "delete", f"{self._prefix}-{name}"])


def enter(path: str) -> None:
    """This thread, and what it starts, is in the network of this file."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(path).open() as other:
        if libc.setns(other.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


async def heard(condition: Callable[[], Value], what: str) -> Value:
    """As `until`, while the event loop goes on."""
    return await asyncio.to_thread(until, condition, what)


@contextmanager
def segment(*machines: str) -> Iterator[Segment]:
    """The machines, connected and gone afterwards."""
    if os.geteuid() != 0:
        missing("needs root, to make networks")
    needs("iproute2", "procps")
    made = Segment(machines)
    try:
        made.build()
        yield made
    finally:
        made.remove()
