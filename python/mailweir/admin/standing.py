"""Whether the process is ready, and the limits that it was given, as metrics: a row for each. Read
from a Situation, which `scraping` takes for each scrape.

What is used of a limit has a metric of its own in `figures`: `mailweir_listener_connections_active`
stands beside `mailweir_listener_max_sessions`. A limit that isn't set has no sample.
"""

from collections.abc import Iterable
from typing import Any

from mailweir.admin.exposition import Gauge, Group
from mailweir.admin.readiness import unready
from mailweir.config.listener import Listener
from mailweir.config.pool import Pool, Server
from mailweir.situation import Situation


def counted(situation: Situation) -> int:
    """Sessions that count against `max_sessions`: flows do where an operator wrote it."""
    stats = situation.stats
    flows = stats.kernel_path.flows if stats.kernel_path else 0
    return stats.active - (flows if situation.config.max_sessions is None else 0)


def _limited(situation: Situation) -> Iterable[tuple[tuple[str, str], Server]]:
    """Servers with a limit alone: there may be thousands without."""
    return (
        ((pool, name), server)
        for pool, one in situation.config.pools.items()
        for name, server in one.servers.items()
        if server.max_sessions is not None
    )


_PROCESS = Group[Situation, Situation](
    (),
    lambda situation: [((), situation)],
    Gauge(
        "mailweir_ready",
        "1 where new sessions may be sent here, 0 where not: the same as /readyz.",
        lambda situation: not unready(situation),
    ),
    Gauge(
        "mailweir_sessions_counted",
        "Sessions now that count against mailweir_max_sessions: with those in the kernel where"
        " max_sessions is written, without them where it is auto.",
        counted,
    ),
)
_LISTENERS = Group[Situation, Listener](
    ("listener",),
    lambda situation: (((name,), one) for name, one in situation.config.listeners.items()),
    Gauge(
        "mailweir_listener_max_sessions",
        "Sessions that a listener may have at a time (limits.sessions).",
        lambda one: one.limits.sessions,
    ),
    Gauge(
        "mailweir_listener_max_sessions_per_source",
        "Sessions that one source may have of it at a time (limits.per_source.sessions).",
        lambda one: one.limits.per_source.sessions,
    ),
    Gauge(
        "mailweir_listener_max_age_seconds",
        "The age at which its sessions are cut (max_age).",
        lambda one: one.max_age or None,
    ),
)
_POOLS = Group[Situation, Pool](
    ("pool",),
    lambda situation: (((name,), one) for name, one in situation.config.pools.items()),
    Gauge(
        "mailweir_pool_max_waiting",
        "Sessions that may wait for a place at a time (queue.length).",
        lambda one: one.queue.length if one.queue else None,
    ),
    Gauge(
        "mailweir_pool_max_ejected_ratio",
        "The share of its servers that may be ejected at a time, 0 to 1 (outlier.max_ejected).",
        lambda one: one.outlier.max_ejected if one.outlier else None,
    ),
)
_SERVERS = Group[Situation, Server](
    ("pool", "server"),
    _limited,
    Gauge(
        "mailweir_server_max_sessions",
        "Sessions that a server may have at a time (max_sessions); its agent may say less.",
        lambda one: one.max_sessions,
    ),
)
STANDING: tuple[Group[Situation, Any], ...] = (_PROCESS, _LISTENERS, _POOLS, _SERVERS)
