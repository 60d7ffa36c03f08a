"""What was seen of this machine, as values: `machine_facts` reads, `machine_verdict` decides."""

from dataclasses import dataclass
from ipaddress import IPv4Network

from mailweir.config.address import Address


@dataclass(frozen=True, slots=True)
class PortOwner:
    """Who has a listening socket; of one that can't be seen, `pid` is None. `six_alone`: it leaves
    IPv4 to others, where it is one of IPv6.
    """

    address: Address
    pid: int | None
    name: str
    six_alone: bool = False


@dataclass(frozen=True, slots=True)
class Rights:
    """Of the running process: its limit of descriptors, and its capabilities as a mask of their
    numbers.
    """

    descriptors: int
    capabilities: int


@dataclass(frozen=True, slots=True)
class Tracking:
    """The kernel's table of connections: how many are in it, and how many there may be."""

    count: int
    most: int


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """All of it at one moment. `strict` are devices that drop what would be answered by another
    one, `networks` the IPv4 networks of each device, `merging` those with large receive offload,
    `promotes` whether a device keeps its other addresses when the first of a network goes.
    `unasked`: a process is at the admin socket, or may be, and doesn't say who it is.
    """

    rights: Rights | None
    own_descriptors: int
    local_ports: int
    tracking: Tracking | None
    strict: frozenset[str]
    networks: tuple[tuple[str, IPv4Network], ...]
    merging: tuple[str, ...]
    promotes: dict[str, bool]
    backlog: int | None
    free_ports_from: int
    bpf_files: bool
    synchronised: bool | None
    owners: tuple[PortOwner, ...]
    unasked: bool
