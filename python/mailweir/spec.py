"""What the data plane is to do, as plain frozen values: a DesiredState.

The twin of rust/core/src/spec.rs. `state.desired` makes one, `state.diff` compares
two, `plane` hands one over. It sits below all three, so that deciding (pure) and
applying (the extension) share these words without importing each other.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from mailweir.config.words import Balance, DryRun, Forwarding, LogFormat, Protocol, Proxy, Refuse


class ServerKey(NamedTuple):
    """A server's identity, which outlives reloads."""

    pool: str
    server: str

    def __str__(self) -> str:
        return f"{self.pool}/{self.server}"


class ServerState(StrEnum):
    """What a server may be used for."""

    UP = "up"
    DOWN = "down"
    DRAIN = "drain"
    MAINT = "maint"
    PANIC = "panic"  # down, and used all the same


@dataclass(frozen=True, slots=True)
class DesiredTimeouts:
    """Seconds; the meaning is the configuration's."""

    connect: float
    greeting: float
    accept_total: float
    idle_client: float
    idle_server: float
    half_closed: float


@dataclass(frozen=True, slots=True)
class DesiredAccess:
    """Prefixes, as `10.0.0.0/8`, of who may come in and who may not, whether the others may, and
    the code that those hear who may not.
    """

    allow: tuple[str, ...]
    deny: tuple[str, ...]
    admits_others: bool
    deny_code: int


@dataclass(frozen=True, slots=True)
class DesiredRate:
    """`burst` at once, then one each `seconds` / `count`."""

    count: int
    seconds: float
    burst: int


@dataclass(frozen=True, slots=True)
class DesiredPerSource:
    """How much a source may have; a source is so many leading bits of an address."""

    sessions: int | None
    rate: DesiredRate | None
    prefix4: int
    prefix6: int
    exempt: tuple[str, ...]  # prefixes


@dataclass(frozen=True, slots=True)
class DesiredListener:
    """A listener; `bind` as `192.0.2.1:25` or `[2001:db8::1]:25`."""

    name: str
    bind: tuple[str, ...]
    protocol: Protocol
    pool: str
    timeouts: DesiredTimeouts
    max_sessions: int | None
    max_age: float | None  # seconds
    forwarding: Forwarding
    paused: bool
    access: DesiredAccess
    refuse: Refuse
    per_source: DesiredPerSource | None
    dry_run: tuple[DryRun, ...]


@dataclass(frozen=True, slots=True)
class DesiredServer:
    """A server of a pool."""

    name: str
    address: str
    weight: int
    state: ServerState
    max_sessions: int | None
    proxy: Proxy
    source: tuple[str, ...]
    backup: bool


@dataclass(frozen=True, slots=True)
class DesiredHashKey:
    """What is hashed to choose a server: so many leading bits of a source's address, and a seed."""

    prefix4: int
    prefix6: int
    seed: str


@dataclass(frozen=True, slots=True)
class DesiredSticky:
    """Which sources are one, and how many seconds after its last session one is remembered."""

    prefix4: int
    prefix6: int
    ttl: float


@dataclass(frozen=True, slots=True)
class DesiredQueue:
    """How many sessions may wait for a server, and for how many seconds."""

    length: int
    wait: float


@dataclass(frozen=True, slots=True)
class DesiredPool:
    """A pool and its servers, in the file's order."""

    name: str
    balance: Balance
    servers: tuple[DesiredServer, ...]
    hash_key: DesiredHashKey
    sticky: DesiredSticky | None
    slow_start: float  # seconds; 0: none
    queue: DesiredQueue | None

    def counted(self) -> list[DesiredServer]:
        """Those that count for a panic: not backups, nor who is to have no sessions anyway."""
        out = (ServerState.DRAIN, ServerState.MAINT)
        return [
            one for one in self.servers if one.weight and not one.backup and one.state not in out
        ]

    def is_in_panic(self) -> bool:
        """Whether servers that are down are used all the same."""
        return any(one.state is ServerState.PANIC for one in self.servers)


@dataclass(frozen=True, slots=True)
class DesiredDrain:
    """Seconds; the meaning is the configuration's. `quiet_opaque` is for what can't be read."""

    quiet: float
    quiet_opaque: float
    spread: float
    deadline: float


@dataclass(frozen=True, slots=True)
class DesiredLog:
    """Where the session log goes: `off`, `stderr`, `syslog` or a path."""

    sessions: str
    format: LogFormat


@dataclass(frozen=True, slots=True)
class DesiredKernel:
    """What the kernel path may use: its own source ports, and how many flows there may be.

    `instance` sets its flows apart from those of other processes on this machine.
    """

    instance: str
    source_ports: tuple[int, int]  # the first and the last
    max_flows: int
    counted: bool  # against max_sessions


@dataclass(frozen=True, slots=True)
class DesiredRoom:
    """What descriptors and memory are enough for, and `by` which of them it is bounded.

    `sessions` are those that aren't flows. `spare` are connections beside theirs: so many that
    are over and linger, and so many to servers that are waited for beyond their time-out.
    """

    sessions: int
    spare: int
    by: str


@dataclass(frozen=True, slots=True)
class DesiredState:
    """All that the data plane is to do. `hostname` opens its refusal lines; `denied` are prefixes
    that no listener lets in.
    """

    hostname: str
    max_sessions: int
    room: DesiredRoom
    drain: DesiredDrain
    log: DesiredLog
    kernel: DesiredKernel
    listeners: tuple[DesiredListener, ...]
    pools: tuple[DesiredPool, ...]
    denied: tuple[str, ...]

    def server_states(self) -> dict[ServerKey, ServerState]:
        """The part that changes with health alone."""
        return {
            ServerKey(pool.name, server.name): server.state
            for pool in self.pools
            for server in pool.servers
        }
