"""Looks each second at what servers do to sessions, and has those ejected that spoil them, as
`outliers` decides. Owned by the daemon.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import structlog

from mailweir.admin.metrics import Metrics
from mailweir.config.model import Config
from mailweir.config.units import format_duration
from mailweir.health.monitor import Result
from mailweir.health.outliers import Change, Member, Outliers, PoolSeen
from mailweir.health.suspicion import Counted
from mailweir.plane import Plane
from mailweir.spec import DesiredPool, DesiredServer, DesiredState, ServerKey, ServerState
from mailweir.stats import ServerStats

# Seconds between two looks.
_EVERY = 1.0

_log = structlog.get_logger("mailweir")


class Ejections:
    """Of one process."""

    def __init__(
        self,
        outliers: Outliers,
        plane: Plane,
        metrics: Metrics,
        *,
        on_change: Callable[[], None],
        hurry: Callable[[ServerKey], None],
        is_told: Callable[[ServerKey], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_change` is called where servers are to be used or not, `hurry` has one checked.
        `is_told` says whether an operator or an agent has a server out of use.
        """
        self._outliers = outliers
        self._plane = plane
        self._metrics = metrics
        self._on_change = on_change
        self._hurry = hurry
        self._is_told = is_told
        self._clock = clock
        self._failing: Mapping[str, Sequence[str]] = {}

    async def watch(self, running: Callable[[], tuple[Config, DesiredState | None]]) -> None:
        """Look each second at what runs then. Until it is cancelled."""
        while True:
            await asyncio.sleep(_EVERY)
            config, state = running()
            if state is not None:
                self.look(config, state)

    def look(self, config: Config, state: DesiredState) -> None:
        """Once."""
        now = self._clock()
        found = self._plane.servers()
        pools = pools_seen(config, state, found, self._is_told)
        changes = self._outliers.step([*pools], now)
        for change in changes:
            self._say(change)
        if changes:
            self._on_change()
        for key in self._outliers.due(now):
            self._hurry(key)
        self._say_failing()

    def checked(self, result: Result) -> None:
        """A check's result: it may bring its server back."""
        if not result.key.is_main or not result.outcome.ok:
            return
        change = self._outliers.checked(result.key.server, result.outcome.at, self._clock())
        if change is not None:
            self._say(change)
            self._on_change()

    def _say(self, change: Change) -> None:
        ejection = change.ejection
        if change.ended:
            _log.info("server used again", server=str(change.key), reason=change.ended)
            return
        self._metrics.ejected(change.key, ejection.cause)
        _log.warning(
            "server ejected",
            server=str(change.key),
            reason=ejection.reason,
            time=format_duration(ejection.until - ejection.began),
            times=ejection.times,
        )

    def _say_failing(self) -> None:
        before, self._failing = self._failing, self._outliers.failing()
        self._metrics.failing = {pool: len(names) for pool, names in self._failing.items()}
        for pool, names in self._failing.items():
            if names and not before.get(pool):
                what = "servers fail sessions and are used all the same"
                _log.warning(what, pool=pool, servers=", ".join(names))
            elif not names and before.get(pool):
                _log.info("servers don't fail sessions any more", pool=pool)


def pools_seen(
    config: Config,
    state: DesiredState,
    servers: Sequence[ServerStats],
    is_told: Callable[[ServerKey], bool],
) -> Iterator[PoolSeen]:
    """What is decided by, of each pool that runs. Pure."""
    counted = {(one.pool, one.name): one for one in servers}
    for pool in state.pools:
        settings = config.pools.get(pool.name)
        if settings is None:
            continue
        backups = not any(_is_in_use(one, backup=False) for one in pool.servers)
        yield PoolSeen(
            pool.name,
            settings.outlier,
            settings.panic,
            # Where backups stand in, there is no panic.
            0 if backups else _meant(pool, is_told),
            [
                Member(
                    server.name,
                    server.address,
                    _is_in_use(server, backup=backups),
                    _counted(found),
                )
                for server in pool.servers
                if (found := counted.get((pool.name, server.name)))
            ],
        )


def _meant(pool: DesiredPool, is_told: Callable[[ServerKey], bool]) -> int:
    """How many servers count for a panic: those that drain by a check do."""
    drain = [one for one in pool.servers if one.state is ServerState.DRAIN]
    by_checks = (one for one in drain if not is_told(ServerKey(pool.name, one.name)))
    return len(pool.counted()) + sum(one.weight > 0 and not one.backup for one in by_checks)


def _is_in_use(server: DesiredServer, *, backup: bool) -> bool:
    up = server.state in (ServerState.UP, ServerState.EJECTED)
    return up and server.weight > 0 and server.backup is backup


def _counted(server: ServerStats) -> Counted:
    cut = server.spoiled.get("cut_in_data", 0)
    refused = sum(server.spoiled.values()) - cut
    return Counted(server.sessions, refused, cut, server.in_vain, server.in_a_row)
