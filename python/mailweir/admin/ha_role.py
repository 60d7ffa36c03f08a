"""The role that the keeper of a pair's addresses (`mailweir ha`, or keepalived) told this node
last. Owned by the daemon, told by way of the routes.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import structlog
from prometheus_client import CollectorRegistry

from mailweir.admin.exposition import GaugeBy, Group, Table
from mailweir.config.model import Config
from mailweir.config.words import HaKeeper, HaRole
from mailweir.ending import Terms
from mailweir.situation import RoleTold

_log = structlog.get_logger("mailweir")


class NodeRole:
    """Kept for `status`, shown as a metric, said in the log where it is another one."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        on_change: Callable[[RoleTold], None],
        clock: Callable[[], float] = time.time,  # seconds since 1970
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.told: RoleTold | None = None
        self._on_change = on_change
        self._clock = clock
        self._steady = steady
        registry.register(Table([ROLE], lambda: self))

    def tell(self, role: HaRole, by: HaKeeper, *, alarms: int = 0) -> bool:
        """Take a role; whether it is another one than before. `alarms` are those of the pair."""
        before = self.told
        changed = before is None or before.role is not role
        if before and not changed:
            self.told = replace(before, by=by, alarms=alarms)
        else:
            self.told = told = RoleTold(role, by, self._clock(), self._steady(), alarms)
            self._on_change(told)
            was = before.role if before else "unknown"
            _log.info("high availability", change=f"{was} -> {role}", by=by)
        return changed

    def terms(self, config: Config) -> Terms:
        """How the process ends: with time for the next one where `mailweir ha` has said last that
        the addresses are here.
        """
        told = self.told
        here = told is not None and told.by is HaKeeper.NATIVE and told.role is HaRole.ACTIVE
        return Terms(config.drain.deadline, config.ha.handover if config.ha and here else None)


ROLE = Group[NodeRole, RoleTold | None](
    (),
    lambda role: [((), role.told)],
    GaugeBy(
        "mailweir_ha_role",
        "1 for the role that this node was told to have in a pair; 0 for all before that.",
        "role",
        lambda told: {role.value: told is not None and told.role is role for role in HaRole},
    ),
)
