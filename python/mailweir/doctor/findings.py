"""What an examination finds: the types that all looks give out. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class Ailment(StrEnum):
    """Which kind of thing is wrong: stable words, for scripts."""

    CONNECT = "connect"
    GREETING = "greeting"
    SLOW_GREETING = "slow_greeting"
    PROXY = "proxy"
    RELAY = "relay"
    CLIENT_LIMIT = "client_limit"
    HELO = "helo"
    GREETING_NAME = "greeting_name"
    CERTIFICATE = "certificate"
    CLOCK = "clock"
    DESCRIPTORS = "descriptors"
    LOCAL_PORTS = "local_ports"
    CONNECTION_TRACKING = "connection_tracking"
    REVERSE_PATH = "reverse_path"
    SECONDARY_ADDRESSES = "secondary_addresses"
    RECEIVE_OFFLOAD = "receive_offload"
    BACKLOG = "backlog"
    RIGHTS = "rights"
    BPF_FILES = "bpf_files"
    KERNEL_PATH = "kernel_path"
    PORT_TAKEN = "port_taken"
    OUTWARDS = "outwards"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that is wrong `where` (a server as `POOL/SERVER (ADDRESS)`, a listener, the
    machine): `wrong` says what, `change` which setting of whom to change. Both are fit to be shown.
    """

    where: str
    ailment: Ailment
    wrong: str
    change: str


@dataclass(frozen=True, slots=True)
class NotSeen:
    """What couldn't be looked at, or can't be known from here, and why."""

    where: str
    why: str


@dataclass(frozen=True, slots=True)
class Examined:
    """All of an examination. `servers` is how many were looked at."""

    servers: int
    findings: tuple[Diagnosis, ...]
    not_seen: tuple[NotSeen, ...]
