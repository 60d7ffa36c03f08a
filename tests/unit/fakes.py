"""Stand-ins for the data plane, and configurations to begin with."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import cast

from mailweir.config.load import Loaded, parse
from mailweir.config.model import Config
from mailweir.errors import PlaneError
from mailweir.plane import ServerTrouble, Session, Stats
from mailweir.spec import DesiredRoom, DesiredState, ServerKey, ServerState
from mailweir.state.overrides import Overrides

NOTHING_SAID = Overrides()
ROOM = DesiredRoom(sessions=9000, spare=1000)

MINIMAL = """\
listeners:
  mx:
    bind: ["192.0.2.1:25"]
    pool: farm
pools:
  farm:
    servers:
      a: 10.0.0.1:25
      b: 10.0.0.2:25
"""
# What is said of its servers, behind their names.
STRANGERS = (
    "won't know who the client is: write `proxy: v2` (in Postfix"
    " `smtpd_upstream_proxy_protocol = haproxy`), or `proxy: off` if that is meant"
)


def loaded(text: str = MINIMAL) -> Loaded:
    """A configuration from text, with its warnings and places."""
    return parse(text, "f.yaml")


def config(text: str = MINIMAL) -> Config:
    """A configuration from text."""
    return loaded(text).config


@dataclass(frozen=True)
class FakeHistogram:
    bounds: tuple[float, ...] = (0.1, 1.0)
    counts: tuple[int, ...] = (1, 2, 3)
    sum: float = 4.5


@dataclass(frozen=True)
class FakeSourcesStats:
    entries: int = 5
    places: int = 65536
    evicted: int = 0
    untracked: int = 0


@dataclass(frozen=True)
class FakeListenerStats:
    name: str
    addresses: list[str]
    accepted: int = 7
    active: int = 1
    received_bytes: int = 100
    sent_bytes: int = 200
    accept_pauses: int = 0
    paused: bool = False
    ended: dict[str, int] = field(default_factory=lambda: {"client_closed": 6, "refused": 0})
    session_seconds: FakeHistogram = FakeHistogram()
    would_refuse: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("access", "source_sessions", "source_rate", "sessions"), 0
        )
    )
    sources: FakeSourcesStats | None = None


@dataclass(frozen=True)
class FakeServerStats:
    pool: str
    name: str
    address: str
    weight: int
    state: str
    active: int = 2
    sessions: int = 3
    connect_failures: dict[str, int] = field(
        default_factory=lambda: {"refused": 1, "timeout": 0, "unreachable": 0, "other": 0}
    )
    greeting_failures: dict[str, int] = field(default_factory=lambda: {"4xx": 2, "timeout": 1})
    received_bytes: int = 10
    sent_bytes: int = 20
    connect_seconds: FakeHistogram = FakeHistogram()
    greeting_seconds: FakeHistogram = FakeHistogram()
    ramp: float = 1.0
    backup: bool = False


@dataclass(frozen=True)
class FakeStickyStats:
    entries: int = 4
    found: int = 30
    made: int = 6
    broken: int = 2
    evicted: int = 0


@dataclass(frozen=True)
class FakePoolStats:
    name: str
    waiting: int = 0
    queued: int = 0
    queue_ends: dict[str, int] = field(
        default_factory=lambda: {"served": 0, "timeout": 0, "client_gone": 0, "full": 0}
    )
    queue_seconds: FakeHistogram = FakeHistogram()
    sticky: FakeStickyStats | None = None


@dataclass(frozen=True)
class FakeRelayStats:
    copied_bytes: int = 1
    spliced_bytes: int = 2
    pipes: int = 3
    pipe_budget: int = 288
    pipe_fallbacks: int = 0


@dataclass(frozen=True)
class FakeKernelPathStats:
    flows: int = 7
    taken: int = 9
    max_flows: int = 100
    handed_over: int = 20
    adopted: int = 3
    taken_off: int = 0
    earlier: int = 0
    unpinned: int = 0
    moved: int = 0
    not_at: dict[str, str] = field(default_factory=dict)
    ends_with_process: str | None = None
    bytes: int = 4000
    refusals: dict[str, int] = field(default_factory=lambda: {"ecn": 2, "ipv6": 0})
    segments: dict[str, int] = field(default_factory=lambda: {"rewritten": 50})


@dataclass(frozen=True)
class FakeLogStats:
    lines: int = 5
    dropped: int = 0
    errors: int = 0
    last_error: str = ""


@dataclass(frozen=True)
class FakeRoomStats:
    sessions: int = 9000
    held: int = 4
    spare: int = 1000
    lingering: int = 3
    overdue: int = 2
    hurried: int = 1


@dataclass(frozen=True)
class FakeStats:
    generation: int
    draining: bool
    active: int
    listeners: list[FakeListenerStats]
    servers: list[FakeServerStats]
    pools: list[FakePoolStats] = field(default_factory=list)
    workers: int = 2
    relay: FakeRelayStats = FakeRelayStats()
    kernel_path: FakeKernelPathStats | None = None
    no_kernel_path: str | None = None
    log: FakeLogStats = FakeLogStats()
    max_sessions: int = 9000
    room: FakeRoomStats = FakeRoomStats()
    stuck_workers: list[int] = field(default_factory=list)
    worker_lags: list[float] = field(default_factory=lambda: [0.25, 0.5])


@dataclass(frozen=True)
class FakeSession:
    id: str = "00000000000000ab"
    listener: str = "mx"
    client: str = "192.0.2.9:1025"
    pool: str = "farm"
    server: str = "a"
    age_seconds: float = 61.5
    silent_seconds: float = 1.5
    spoke_last: str = "server"
    received_bytes: int = 10
    sent_bytes: int = 20
    tls: bool = False
    path: str = "kernel"
    source: str = "198.51.100.2:10001"


@dataclass(frozen=True)
class FakeTrouble:
    pool: str
    server: str
    cause: str = "greeting 4xx"


class FakePlane:
    """A plane that remembers what it was told. `refuse` makes the next apply fail."""

    def __init__(self, workers: int = 2) -> None:
        self.workers = workers
        self.applied: list[DesiredState] = []
        self.state_changes: list[dict[ServerKey, ServerState]] = []
        self.states: dict[ServerKey, ServerState] = {}
        self.refuse = ""
        # End reasons by clients.
        self.refused: dict[str, str] = {}
        self.active = 0
        self.kernel_path: FakeKernelPathStats | None = None
        self.draining = False
        self.left_to_successor = False
        self.stopped = False
        self.hurries = False
        self.live: list[FakeSession] = []
        self.asked: tuple[object, ...] = ()
        self.reopened = 0
        self.troubles: list[FakeTrouble] = []
        self._wake = os.pipe()

    def apply(self, state: DesiredState) -> int:
        if self.refuse:
            raise PlaneError(self.refuse)
        self.applied.append(state)
        self.states = state.server_states()
        return len(self.applied)

    def set_server_states(self, states: Mapping[ServerKey, ServerState]) -> None:
        self.state_changes.append(dict(states))
        self.states.update(states)

    def hurry(self) -> None:
        self.hurries = True

    def drain(self, *, to_successor: bool) -> None:
        self.draining = True
        self.left_to_successor = to_successor

    def listening(self) -> list[socket.socket]:
        return []

    def sessions(
        self, *, listener: str | None, server: ServerKey | None, limit: int
    ) -> list[Session]:
        self.asked = (listener, server, limit)
        return cast(list[Session], self.live[:limit])

    def next_server(self, pool: str, client: str) -> str | None:
        up = (key.server for key, state in self.states.items() if state is ServerState.UP)
        return next(up, None)

    def admission(self, listener: str, client: str) -> str | None:
        return self.refused.get(client)

    def kill(self, session: str) -> bool:
        return any(one.id == session for one in self.live)

    def kill_from(self, prefix: str) -> int:
        network = ip_network(prefix)
        clients = (one.client.rpartition(":")[0].strip("[]") for one in self.live)
        return sum(ip_address(client) in network for client in clients)

    def reopen_logs(self) -> None:
        self.reopened += 1

    @property
    def wake_fd(self) -> int:
        return self._wake[0]

    def take_troubles(self) -> list[ServerTrouble]:
        os.read(self.wake_fd, 8)
        taken, self.troubles = self.troubles, []
        return cast(list[ServerTrouble], taken)

    def trouble(self, pool: str, server: str) -> None:
        """A server fails a session."""
        self.troubles.append(FakeTrouble(pool, server))
        os.write(self._wake[1], b"x")

    def stop(self) -> None:
        self.stopped = True
        for descriptor in self._wake:
            os.close(descriptor)
        self._wake = (-1, -1)

    def stats(self) -> Stats:
        now = self.applied[-1] if self.applied else None
        listeners = [
            FakeListenerStats(
                listener.name,
                list(listener.bind),
                sources=FakeSourcesStats() if listener.per_source else None,
            )
            for listener in (now.listeners if now else ())
        ]
        servers = [
            FakeServerStats(
                pool.name,
                server.name,
                server.address,
                server.weight,
                str(self.states[ServerKey(pool.name, server.name)]),
                backup=server.backup,
            )
            for pool in (now.pools if now else ())
            for server in pool.servers
        ]
        pools = [
            FakePoolStats(pool.name, sticky=FakeStickyStats() if pool.sticky else None)
            for pool in (now.pools if now else ())
        ]
        stats = FakeStats(
            len(self.applied),
            self.draining,
            self.active,
            listeners,
            servers,
            pools,
            kernel_path=self.kernel_path,
        )
        # The extension's classes can't be made in Python; these have the same attributes.
        return cast(Stats, stats)
