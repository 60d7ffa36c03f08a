"""Looks each second at what servers do to sessions, and has those ejected that spoil them, as
`outliers` decides. Owned by the daemon.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from mailweir.admin.metrics import Metrics
from mailweir.config.model import Config
from mailweir.config.pool import Pool
from mailweir.config.units import format_duration
from mailweir.health.monitor import Result
from mailweir.health.outliers import DOWN, EVERY, Change, Outliers, PoolSeen, ServerSeen
from mailweir.health.suspicion import Counted
from mailweir.plane import Plane
from mailweir.spec import DesiredPool, DesiredServer, DesiredState, ServerKey, ServerState
from mailweir.state.desired import Health
from mailweir.stats import PoolConduct

_NONE = PoolConduct("", 0, ())

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
        self._before: Mapping[str, PoolConduct] = {}

    async def watch(self, running: Callable[[], tuple[Config, DesiredState | None]]) -> None:
        """Look each second at what runs then. Until it is cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            config, state = running()
            if state is not None:
                self.look(config, state)

    def look(self, config: Config, state: DesiredState) -> None:
        """Once."""
        now = self._clock()
        before, self._before = self._before, {one.name: one for one in self._plane.conduct()}
        known = [pool for pool in state.pools if pool.name in config.pools]
        self._outliers.keep(pool.name for pool in known)
        changes = []
        for pool in known:
            conduct = self._before.get(pool.name, _NONE)
            if not self._outliers.rests(pool.name, conduct.bad):
                told = before.get(pool.name, _NONE)
                seen = pool_seen(config.pools[pool.name], pool, conduct, told, self._is_told)
                changes += self._outliers.step(seen, now)
        for change in changes:
            self._say(change)
        if changes:
            self._on_change()
        for key in self._outliers.due(now):
            self._hurry(key)
        self._say_failing()

    def checked(self, result: Result) -> None:
        """A check's result: it may bring its server back. So may the want of one, for something of
        our own: nobody could say when that is over.
        """
        outcome, key, now = result.outcome, result.key.server, self._clock()
        if result.after is Health.DOWN and result.before is not Health.DOWN:
            self._is_over(self._outliers.called_down(key, now))
        if not result.key.is_main or not (outcome.ok or not outcome.conclusive):
            return
        self._is_over(self._outliers.checked(key, outcome.at, now, passed=outcome.ok))

    def _is_over(self, change: Change | None) -> None:
        if change is not None:
            self._say(change)
            self._on_change()

    def _say(self, change: Change) -> None:
        ejection = change.ejection
        if change.ended:
            if change.ended == DOWN:
                _log.info("ejection is over", server=str(change.key), reason=change.ended)
            else:
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


def pool_seen(
    settings: Pool,
    pool: DesiredPool,
    conduct: PoolConduct,
    before: PoolConduct,
    is_told: Callable[[ServerKey], bool],
) -> PoolSeen:
    """What is decided by, of a pool that runs; `before` was told a second earlier. Pure."""
    backups = not any(_is_in_use(one, backup=False) for one in pool.servers)
    counted = _counted(conduct)
    return PoolSeen(
        pool.name,
        settings.outlier,
        settings.panic,
        # Where backups stand in, there is no panic.
        0 if backups else _meant(pool, is_told),
        [
            ServerSeen(
                one.name,
                one.address,
                _is_in_use(one, backup=backups),
                counted[one.name],
            )
            for one in pool.servers
            if one.name in counted
        ],
        conduct.bad,
        _counted(before),
    )


def _meant(pool: DesiredPool, is_told: Callable[[ServerKey], bool]) -> int:
    """How many servers count for a panic: those that drain by a check do."""
    drain = [one for one in pool.servers if one.state is ServerState.DRAIN]
    by_checks = (one for one in drain if not is_told(ServerKey(pool.name, one.name)))
    return len(pool.counted()) + sum(one.weight > 0 and not one.backup for one in by_checks)


def _is_in_use(server: DesiredServer, *, backup: bool) -> bool:
    up = server.state in (ServerState.UP, ServerState.EJECTED)
    return up and server.weight > 0 and server.backup is backup


def _counted(pool: PoolConduct) -> dict[str, Counted]:
    return {
        one.name: Counted(one.taken, one.refused, one.cut, one.in_vain, one.in_a_row)
        for one in pool.servers
    }
