"""What the data plane is to do, as plain frozen values: a DesiredState.

The twin of rust/core/src/spec: the same fields by the same names, since it goes there as JSON
and is read as it is. `state.desired` makes one, `state.diff` compares two field by field, in the
order that stands here, and `plane` hands one over.
It sits below all three, so that deciding (pure) and applying (the extension) share these words
without importing each other.
"""

from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

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
    EJECTED = "ejected"  # no new sessions for a while: it spoiled those that it had


class DesiredTimeouts(Struct, frozen=True):
    """Seconds; the meaning is the configuration's."""

    connect: float
    greeting: float
    accept_total: float
    idle_client: float
    idle_server: float
    half_closed: float


class DesiredAccess(Struct, frozen=True):
    """Prefixes, as `10.0.0.0/8`, of who may come in and who may not, whether the others may, and
    the code that those hear who may not.
    """

    allow: tuple[str, ...]
    deny: tuple[str, ...]
    admits_others: bool
    deny_code: int


class DesiredRate(Struct, frozen=True):
    """`burst` at once, then one each `period` / `count`."""

    count: int
    period: float  # seconds
    burst: int


class DesiredSource(Struct, frozen=True):
    """Who a client is: so many leading bits of its address, by its family."""

    prefix4: int
    prefix6: int


class DesiredPerSource(Struct, frozen=True):
    """How much a source may have."""

    sessions: int | None
    rate: DesiredRate | None
    source: DesiredSource
    exempt: tuple[str, ...]  # prefixes


class DesiredListener(Struct, frozen=True):
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


class DesiredServer(Struct, frozen=True):
    """A server of a pool."""

    name: str
    address: str
    weight: int
    state: ServerState
    max_sessions: int | None
    proxy: Proxy
    source: tuple[str, ...]
    backup: bool


class DesiredHashKey(Struct, frozen=True):
    """What is hashed to choose a server."""

    source: DesiredSource
    seed: str


class DesiredSticky(Struct, frozen=True):
    """A source goes to the server of its last session, for so many seconds after it."""

    source: DesiredSource
    ttl: float


class DesiredQueue(Struct, frozen=True):
    """How many sessions may wait for a server, and for how many seconds."""

    length: int
    wait: float


class DesiredPool(Struct, frozen=True):
    """A pool and its servers, in the file's order."""

    name: str
    balance: Balance
    hash_key: DesiredHashKey
    sticky: DesiredSticky | None
    slow_start: float  # seconds; 0: none
    queue: DesiredQueue | None
    overflow: tuple[str, ...]  # pools that get its sessions where it can't take them
    servers: tuple[DesiredServer, ...]

    def counted(self) -> list[DesiredServer]:
        """Those that count for a panic: not backups, nor who is to have no sessions anyway."""
        out = (ServerState.DRAIN, ServerState.MAINT)
        return [
            one for one in self.servers if one.weight and not one.backup and one.state not in out
        ]

    def is_in_panic(self) -> bool:
        """Whether servers that are down are used all the same."""
        return any(one.state is ServerState.PANIC for one in self.servers)


class DesiredDrain(Struct, frozen=True):
    """Seconds; the meaning is the configuration's. `quiet_opaque` is for what can't be read."""

    quiet: float
    quiet_opaque: float
    spread: float
    deadline: float


class DesiredLog(Struct, frozen=True):
    """Where the session log goes: `off`, `stderr`, `syslog` or a path."""

    sessions: str
    format: LogFormat


class DesiredKernel(Struct, frozen=True):
    """What the kernel path may use: its own source ports, and how many flows there may be.

    `instance` sets its flows apart from those of other processes on this machine.
    """

    instance: str
    source_ports: tuple[int, int]  # the first and the last
    max_flows: int
    counted: bool  # against max_sessions


class DesiredRoom(Struct, frozen=True):
    """What descriptors and memory are enough for.

    `sessions` are those that aren't flows. `spare` are connections beside theirs: so many that
    are over and linger, and so many to servers that are waited for beyond their time-out.
    """

    sessions: int
    spare: int


class DesiredState(Struct, frozen=True):
    """All that the data plane is to do. `hostname` opens its refusal lines; `denied` are prefixes
    that no listener lets in.
    """

    hostname: str
    max_sessions: int
    room: DesiredRoom
    drain: DesiredDrain
    log: DesiredLog
    kernel: DesiredKernel
    denied: tuple[str, ...]
    listeners: tuple[DesiredListener, ...]
    pools: tuple[DesiredPool, ...]

    def server_states(self) -> dict[ServerKey, ServerState]:
        """The part that changes with health alone."""
        return {
            ServerKey(pool.name, server.name): server.state
            for pool in self.pools
            for server in pool.servers
        }

    def relayed(self) -> "DesiredState":
        """The same without the kernel path, while that is another process's."""
        listeners = (replace(one, forwarding=Forwarding.RELAY) for one in self.listeners)
        return replace(self, listeners=tuple(listeners))


class Elsewhere(Struct, frozen=True):
    """Sessions that the process before this one has still, where it was upgraded: by listener, and
    by pool and server.
    """

    listeners: tuple[tuple[str, int], ...]
    servers: tuple[tuple[str, str, int], ...]
