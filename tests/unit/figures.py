"""Figures to begin with, as a data plane tells them; tests change copies."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from mailweir.stats import (
    BoundsStats,
    Histogram,
    KernelPathStats,
    ListenerStats,
    LogStats,
    NoKernelPath,
    PoolStats,
    RefusedSource,
    RelayStats,
    RoomStats,
    ServerStats,
    ServerTimes,
    Session,
    SourcesStats,
    Stats,
    StickyStats,
    WorkerStats,
)

HISTOGRAM = Histogram(counts=(1, 2, 3), sum=4.5)
SOURCES = SourcesStats(entries=5, places=65536, evicted=0, untracked=0)
STICKY = StickyStats(entries=4, found=30, made=6, broken=2, evicted=0)
RELAY = RelayStats(copied_bytes=1, spliced_bytes=2, pipes=3, pipe_budget=288, pipe_fallbacks=0)
LOG = LogStats(lines=5, dropped=0, errors=0, last_error="")
KERNEL_PATH = KernelPathStats(
    flows=7,
    places_taken=9,
    lingering=4,
    restarts=1,
    tables_bytes=38 << 20,
    max_flows=100,
    wanted_flows=100,
    handed_over=20,
    adopted=3,
    keepalives=12,
    unanswered=1,
    given_up=0,
    taken_off=0,
    earlier=0,
    unpinned=0,
    moved=0,
    not_at={},
    ends_with_process=None,
    bytes=4000,
    refusals={"ecn": 2, "ipv6": 0},
    segments={"rewritten": 50},
)
NO_KERNEL_PATH = NoKernelPath("refused", "no BPF")
SESSION = Session(
    id="00000000000000ab",
    listener="mx",
    client="192.0.2.9:1025",
    pool="farm",
    server="a",
    age=61.5,
    silent=1.5,
    spoke_last="server",
    received_bytes=10,
    sent_bytes=20,
    tls=False,
    path="kernel",
    source="198.51.100.2:10001",
)
REFUSED = RefusedSource(
    listener="mx",
    source="192.0.2.7/32",
    sessions=15,
    reasons={"denied": 12, "source_rate": 3},
    last_reason="denied",
    age=61.25,
)
_LISTENER = ListenerStats(
    name="mx",
    addresses=(),
    accepted=7,
    active=1,
    places=1,
    received_bytes=100,
    sent_bytes=200,
    accept_pauses=0,
    paused=False,
    ended={"client_closed": 6, "refused": 0},
    would_refuse=dict.fromkeys(("access", "source_sessions", "source_rate", "sessions"), 0),
    sources=None,
    session_time=HISTOGRAM,
)
TIMES = ServerTimes(connect=HISTOGRAM, greeting=HISTOGRAM)
_SERVER = ServerStats(
    pool="farm",
    name="a",
    address="10.0.0.1:25",
    weight=100,
    state="up",
    active=2,
    sessions=3,
    connect_failures={"refused": 1, "timeout": 0, "unreachable": 0, "other": 0},
    greeting_failures={"4xx": 2, "timeout": 1},
    spoiled={"connect": 1, "4xx": 2, "cut_in_data": 0},
    ended={"client_quit": 2},
    session_time=7.5,
    received_bytes=10,
    sent_bytes=20,
    times=TIMES,
    ramp=1.0,
    backup=False,
)
_POOL = PoolStats(
    name="farm",
    waiting=0,
    queued=0,
    queue_ends={"served": 0, "timeout": 0, "client_gone": 0, "full": 0},
    queue_time=HISTOGRAM,
    sticky=None,
    overflow=None,
)
_STATS = Stats(
    generation=1,
    workers=(WorkerStats(0.25, stuck=False), WorkerStats(0.5, stuck=False)),
    max_sessions=9000,
    room=RoomStats(sessions=9000, held=4, spare=1000, lingering=3, overdue=2, hurried=1),
    draining=False,
    active=0,
    bounds=BoundsStats(
        session=(0.1, 1.0), connect=(0.1, 1.0), greeting=(0.1, 1.0), queue=(0.1, 1.0)
    ),
    listeners=(),
    pools=(),
    relay=RELAY,
    kernel_path=None,
    no_kernel_path=None,
    log=LOG,
)


def listener_stats(name: str, *addresses: str, **more: Any) -> ListenerStats:
    return replace(_LISTENER, name=name, addresses=addresses, **more)


def server_stats(
    pool: str, name: str, address: str, weight: int, state: str, **more: Any
) -> ServerStats:
    return replace(
        _SERVER, pool=pool, name=name, address=address, weight=weight, state=state, **more
    )


def pool_stats(name: str, **more: Any) -> PoolStats:
    return replace(_POOL, name=name, **more)


def stats(
    generation: int,
    draining: bool,
    active: int,
    listeners: Sequence[ListenerStats],
    **more: Any,
) -> Stats:
    return replace(
        _STATS,
        generation=generation,
        draining=draining,
        active=active,
        listeners=tuple(listeners),
        **more,
    )


def stuck(*numbers: int) -> tuple[WorkerStats, ...]:
    """Two workers, of which these don't move."""
    return tuple(
        WorkerStats(worker.lag, number in numbers) for number, worker in enumerate(_STATS.workers)
    )
