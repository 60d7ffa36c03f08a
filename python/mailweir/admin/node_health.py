"""How this process is, in short, for the keeper of a pair's addresses (`mailweir ha`).

It asks several times a second, so what costs something for each server is counted when it changes,
or read now and then. Owned by the daemon, served by the routes.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from mailweir.admin.digests import Digests
from mailweir.admin.readiness import takes, why_nowhere, why_unready
from mailweir.spec import DesiredState
from mailweir.state.overrides import Overrides
from mailweir.stats import Stats

# Seconds that a reading of the data plane is good for. With 10 000 servers one takes 40 ms.
_FRESH = 1.0
# Of a worker that stands still, as the data plane has it.
_STUCK = 3.0


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """How this process is, in short."""

    pid: int
    started: float  # seconds since 1970
    listening: bool
    ending: bool
    workers_alive: bool  # some worker moves
    sessions: int
    flows: int  # of these, sessions in the kernel
    servers: int
    up: int
    pools_down: list[str]  # those that a listener uses and that have no server for new sessions
    generation: int
    paused: str  # by whom new sessions are refused, at the node or at listeners; or empty
    digest: str  # of the configuration that runs, as far as both nodes of a pair need the same
    words: str  # a digest of what operators have said
    reasons: list[str]  # why new sessions shouldn't be sent here


@dataclass(frozen=True, slots=True)
class Count:
    """Of what the data plane was told."""

    servers: int
    up: int  # those that take new sessions
    pools_down: dict[str, str]  # and why


class HealthReader:
    """Reads it anew where that costs little, and what was counted or read last where it doesn't."""

    def __init__(
        self,
        stats: Callable[[], Stats],
        digests: Digests,
        *,
        started: float,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stats = stats
        self._digests = digests
        self._started = started
        self._steady = steady
        self._read: tuple[float, Stats] | None = None
        self._counted: tuple[DesiredState, Count] | None = None
        # Whether no worker had moved for long, at the last reading and at the one before.
        self._still = (False, False)

    def read(
        self,
        applied: DesiredState | None,
        overrides: Overrides,
        *,
        generation: int,
        ending: bool,
    ) -> NodeHealth:
        """`applied` is what the data plane was told last; None is nothing yet."""
        count, stats = self._count(applied), self._figures()
        reasons = why_unready(
            count.pools_down.values(),
            draining=ending,
            listening=applied is not None,
            overrides=overrides,
        )
        return NodeHealth(
            pid=os.getpid(),
            started=self._started,
            listening=applied is not None,
            ending=ending,
            # One reading alone may be that of a machine that stood still as a whole.
            workers_alive=not all(self._still),
            sessions=stats.active,
            flows=stats.kernel_path.flows if stats.kernel_path else 0,
            servers=count.servers,
            up=count.up,
            pools_down=list(count.pools_down),
            generation=generation,
            paused=_paused(overrides),
            digest=self._digests.configuration,
            words=self._digests.of_words(overrides),
            reasons=reasons,
        )

    def _count(self, applied: DesiredState | None) -> Count:
        if applied is None:
            return Count(0, 0, {})
        if self._counted is None or self._counted[0] is not applied:
            self._counted = (applied, counted(applied))
        return self._counted[1]

    def _figures(self) -> Stats:
        now = self._steady()
        if self._read is None or now - self._read[0] >= _FRESH:
            stats = self._stats()
            self._read = (now, stats)
            lags = [worker.lag for worker in stats.workers]
            self._still = (self._still[1], min(lags, default=0.0) > _STUCK)
        return self._read[1]


def _paused(overrides: Overrides) -> str:
    """Without for how long: that would be another word each minute."""
    if overrides.node:
        return f"by {overrides.node.by}"
    found = overrides.paused
    return ", ".join(f"by {word.by} at listener {name}" for name, word in found.items())


def counted(state: DesiredState) -> Count:
    """Servers, and pools that can't serve. Pure."""
    used = {listener.pool for listener in state.listeners}
    servers = [server for pool in state.pools for server in pool.servers]
    members = {pool.name: pool.servers for pool in state.pools}
    pools = [pool for pool in state.pools if pool.name in used]
    down = {pool.name: why_nowhere(pool.name, members, pool.overflow) for pool in pools}
    return Count(
        len(servers),
        sum(map(takes, servers)),
        {name: why for name, why in down.items() if why},
    )
