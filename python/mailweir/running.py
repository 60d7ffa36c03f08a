"""The running process, as the admin routes know it: what is shown of it, and how it is changed.

Made by the daemon once there is all that it is made of; `admin.balancer` says what is asked of it.
"""

import os
import time
from collections.abc import Callable
from functools import partial

import structlog

from mailweir import logs
from mailweir.admin.ha_role import NodeRole
from mailweir.admin.node_health import HealthReader, NodeHealth
from mailweir.admin.readiness import unready
from mailweir.changes import Changes
from mailweir.config.model import Config
from mailweir.ending import lose
from mailweir.intents import Intents
from mailweir.operator import Operator, Speaker
from mailweir.process_parts import ProcessParts
from mailweir.reload import Difference, ReloadOutcome
from mailweir.situation import Situation
from mailweir.upgrade.predecessor import Predecessor
from mailweir.upgrade.successor import UpgradeOutcome

_log = structlog.get_logger("mailweir")


class Running:
    """One process, from its listeners to its end."""

    def __init__(
        self,
        parts: ProcessParts,
        changes: Changes,
        intents: Intents,
        *,
        version: str,
        started: float,
        began: float,
        predecessor: Predecessor | None = None,
    ) -> None:
        """`started` is in seconds since 1970, `began` the same on time.monotonic's clock."""
        self.plane = parts.plane
        self.digests = parts.digests
        self.role = NodeRole(
            parts.metrics.registry, on_change=lambda told: parts.monitor.slow_down(told.slowness)
        )
        self._parts = parts
        self._changes = changes
        self._intents = intents
        self._predecessor = predecessor
        self._version = version
        self._started, self._began = started, began
        self._health = HealthReader(parts.plane.stats, parts.digests, started=started)
        self._reasons: list[str] | None = None  # nothing said yet

    # --- what is shown -----------------------------------------------------

    def situation(self, *, with_times: bool = False) -> Situation:
        """The process at this moment."""
        config = self._changes.loaded.config
        return Situation(
            version=self._version,
            hostname=self._parts.hostname,
            pid=os.getpid(),
            started=self._started,
            now=time.time(),
            moment=(moment := time.monotonic()),
            uptime=moment - self._began,
            config_file=str(self._parts.file.absolute()),
            config=config,
            listening=self._changes.reconciler.applied is not None,
            last_load=self._changes.last_load,
            stats=self.plane.stats(),
            read_servers=partial(self.plane.servers, with_times=with_times),
            overrides=self._parts.operator.overrides,
            room=self._parts.room.where(config.max_sessions).by,
            not_kept=self._parts.keeping.problem,
            faults=self._parts.faults.told(),
            lines_dropped=logs.dropped(),
            socket_problem=self._parts.admin.problem,
            checks=self._parts.monitor.checks,
            ejection=self._parts.outliers.told,
            failing=self._parts.outliers.failing(),
            next_server=self.plane.next_server,
            admission=self.plane.admission,
            role=self.role.told,
            before=(self._predecessor.pid, self._predecessor.sessions)
            if self._predecessor and self._predecessor.sessions
            else None,
        )

    def health(self) -> NodeHealth:
        """The same in short."""
        return self._health.read(
            self._changes.reconciler.applied,
            self._parts.operator.overrides,
            generation=self._changes.last_load.generation,
            ending=self._intents.terminations > 0,
        )

    def note_readiness(self) -> None:
        """In the log, where it is another one than before."""
        reasons = unready(self.situation())
        if reasons == self._reasons:
            return
        self._reasons = reasons
        if reasons:
            _log.error("not ready", reason="; ".join(reasons))
        else:
            _log.info("ready")

    # --- what is changed ---------------------------------------------------

    async def operate(
        self, change: Callable[[Operator, Config], None], *, what: str, speaker: Speaker
    ) -> str:
        """Let an operator change something."""
        return await self._changes.operate(change, what=what, speaker=speaker)

    async def reload(self) -> ReloadOutcome:
        """Read the configuration again."""
        return await self._changes.reload()

    async def upgrade(self) -> UpgradeOutcome:
        """Have the next process take over."""
        return await self._changes.upgrade()

    async def difference(self) -> Difference:
        """What a reload would change."""
        return await self._changes.difference()

    async def addresses_move(self) -> int:
        """The pair's addresses are about to be the other node's. Called by the admin routes."""
        if not self._intents.terminations:
            return 0
        if self._predecessor is not None:
            self._predecessor.end(now=True)
        return await lose(self.plane, self._parts.supervisor, self._parts.lane)
