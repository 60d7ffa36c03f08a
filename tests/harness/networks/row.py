"""Three networks in a row: clients, a balancer's, servers'. Needs root, iproute2 and nftables."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.needs import missing, program
from harness.networks.named import NamedNetworks
from harness.process import run

CLIENT, LISTENER = "10.1.0.1", "10.1.0.2"
SOURCE, SERVER = "10.2.0.2", "10.2.0.1"
# The balancer's interfaces towards clients and servers, its address there, and theirs.
LEGS = {"c": ("clients", LISTENER, CLIENT), "s": ("servers", SOURCE, SERVER)}
_BPF_FILES = "/sys/fs/bpf"


class Row(NamedNetworks):
    """The three networks, by their names `c`, `l` and `s`."""

    def connect(self, network: str) -> None:
        """Connect clients or servers with the balancer; again, where the leg was deleted."""
        leg, here, there = LEGS[network]
        peer = f"peer name balancer netns {self.name(network)}"
        self.set_up("l", f"link add {leg} type veth {peer}", *_up(leg, here))
        self.set_up(network, *_up("balancer", there))

    def route(self) -> None:
        """The balancer's host routes between clients and servers."""
        self.run("l", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for network, (_, here, _) in LEGS.items():
            self.run(network, "ip", "route", "add", "default", "via", here)

    def lose(self, percent: int) -> None:
        """So many of a hundred segments don't reach clients and servers."""
        chain = "type filter hook input priority 0;"
        rule = f"meta l4proto tcp numgen random mod 100 < {percent} drop"
        for network in "cs":
            self.run(
                network, "nft", f"table inet loss {{\n chain in {{\n {chain}\n {rule}\n }}\n}}"
            )


def _up(device: str, address: str) -> tuple[str, str]:
    return f"address add {address}/24 dev {device}", f"link set {device} up"


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
    networks = Row(name)
    with networks.made("cls"):
        for network in "cs":
            networks.connect(network)
        yield networks
