"""Three networks in a row: clients, a balancer's, servers'. Needs root, iproute2 and nftables."""

import ctypes
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TypeVar

from harness.needs import missing, program
from harness.process import run
from harness.waiting import LIMIT

CLIENT, LISTENER = "10.1.0.1", "10.1.0.2"
SOURCE, SERVER = "10.2.0.2", "10.2.0.1"
# The balancer's interfaces towards clients and servers, its address there, and theirs.
LEGS = {"c": ("clients", LISTENER, CLIENT), "s": ("servers", SOURCE, SERVER)}
_BPF_FILES = "/sys/fs/bpf"
_CLONE_NEWNET = 0x40000000

Value = TypeVar("Value")


class Row:
    """The three networks, by their names `c`, `l` and `s`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def name(self, network: str) -> str:
        """As `ip netns` knows it."""
        return f"{self._prefix}-{network}"

    def before(self, network: str) -> list[str]:
        """The beginning of a command that is run in a network."""
        return [program("nsenter"), f"--net=/run/netns/{self.name(network)}"]

    def run(self, network: str, *command: str, limit: float = LIMIT) -> str:
        """What a program says that is run in a network."""
        done = run([*self.before(network), *command], limit=limit)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def connect(self, network: str) -> None:
        """Connect clients or servers with the balancer; again, where the leg was deleted."""
        leg, here, there = LEGS[network]
        pair = ["type", "veth", "peer", "name", "balancer", "netns", self.name(network)]
        self.run("l", "ip", "link", "add", leg, *pair)
        for where, device, address in (("l", leg, here), (network, "balancer", there)):
            self.run(where, "ip", "address", "add", f"{address}/24", "dev", device)
            self.run(where, "ip", "link", "set", device, "up")

    def lose(self, percent: int) -> None:
        """So many of a hundred segments don't reach clients and servers."""
        chain = "type filter hook input priority 0;"
        rule = f"meta l4proto tcp numgen random mod 100 < {percent} drop"
        for network in "cs":
            self.run(
                network, "nft", f"table inet loss {{\n chain in {{\n {chain}\n {rule}\n }}\n}}"
            )

    def inside(self, network: str, task: Callable[[], Value]) -> Future[Value]:
        """What a task returns that a thread runs in a network."""
        future: Future[Value] = Future()

        def work() -> None:
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                with Path(f"/run/netns/{self.name(network)}").open() as other:
                    if libc.setns(other.fileno(), _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                future.set_result(task())
            except BaseException as error:
                future.set_exception(error)

        Thread(target=work, daemon=True).start()
        return future


def bpf_files() -> None:
    """There is a BPF file system where systems have one; it stays."""
    if not os.path.ismount(_BPF_FILES):
        done = run([program("mount"), "-t", "bpf", "bpf", _BPF_FILES])
        if done.returncode:
            missing(f"needs a BPF file system: {done.stderr}")


def pins() -> set[Path]:
    """Folders of what mailweir keeps in the kernel."""
    return set(Path(_BPF_FILES).glob("mailweir-*"))


def remove_pins(folders: set[Path]) -> None:
    """What processes that were killed have left in the kernel; it goes with its folder."""
    for folder in folders:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


@contextmanager
def row(name: str = "mailweir") -> Iterator[Row]:
    """The networks, connected and gone afterwards."""
    if os.geteuid() != 0:
        missing("needs root, to make networks")
    made = Row(f"{name}-{os.getpid()}")
    ip = program("ip")
    try:
        for network in "cls":
            done = run([ip, "netns", "add", made.name(network)])
            if done.returncode:
                missing(f"needs networks of its own: {done.stderr}")
            made.run(network, "ip", "link", "set", "lo", "up")
        for network in "cs":
            made.connect(network)
        yield made
    finally:
        for network in "cls":
            run([ip, "netns", "delete", made.name(network)])
