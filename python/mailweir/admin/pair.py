"""What the keeper of a pair's addresses (`mailweir ha`, or keepalived) asks of this process, and
tells it. Owned by the daemon, served by the routes.

It asks several times a second, so what costs something for each server is counted when it changes,
or read now and then.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256

import structlog
from prometheus_client import CollectorRegistry

from mailweir.admin.exposition import GaugeBy, Group, Table
from mailweir.admin.readiness import takes, why_none, why_unready
from mailweir.admin.views import RoleTold
from mailweir.config.agreed import Agreement
from mailweir.config.model import Config
from mailweir.config.words import HaKeeper, HaRole
from mailweir.ending import Terms
from mailweir.spec import DesiredState
from mailweir.state.overrides import Overrides
from mailweir.stats import Stats

# Seconds that a reading of the data plane is good for. With 10 000 servers one takes 40 ms.
_FRESH = 1.0

_log = structlog.get_logger("mailweir")


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """How this process is, in short."""

    pid: int
    started: float  # seconds since 1970
    listening: bool
    ending: bool
    workers_alive: bool  # not every one is stuck
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


class Pair:
    """The role that was told last, and what is counted for who asks."""

    def __init__(
        self,
        stats: Callable[[], Stats],
        registry: CollectorRegistry,
        *,
        started: float,
        clock: Callable[[], float] = time.time,  # seconds since 1970
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.told: RoleTold | None = None
        self._stats = stats
        self._started = started
        self._clock = clock
        self._steady = steady
        self._agreement = Agreement(b"", {})
        self._read: tuple[float, Stats] | None = None
        self._counted: tuple[DesiredState, Count] | None = None
        self._digested: tuple[Overrides, str] = (Overrides(), "")
        registry.register(Table([_TOLD], lambda: self))

    def take(self, agreement: Agreement) -> None:
        """Remember which configuration runs."""
        self._agreement = agreement

    def digests(self) -> dict[str, object]:
        """What the digest is made of: names of keys, with digests of their values."""
        named = {name: one.hex() for name, one in self._agreement.parts.items()}
        return {"digest": self._agreement.digest.hex(), "parts": named}

    def words(self) -> dict[str, object]:
        """What operators had said when it was asked for health last, with the digest that was told
        then; `until` in seconds since 1970.
        """
        overrides, digest = self._digested
        said = [{"what": what, "until": word.until} for what, word in overrides.words()]
        return {"digest": digest, "words": said}

    def tell(self, role: HaRole, by: HaKeeper, *, alarms: int = 0) -> bool:
        """Take a role; whether it is another one than before. `alarms` are those of the pair."""
        before = self.told
        changed = before is None or before.role is not role
        if before and not changed:
            self.told = replace(before, by=by, alarms=alarms)
        else:
            self.told = RoleTold(role, by, self._clock(), self._steady(), alarms)
        if changed:
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

    def health(
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
            now=self._clock(),
        )
        return NodeHealth(
            pid=os.getpid(),
            started=self._started,
            listening=applied is not None,
            ending=ending,
            workers_alive=len(stats.stuck_workers()) < len(stats.workers),
            sessions=stats.active,
            flows=stats.kernel_path.flows if stats.kernel_path else 0,
            servers=count.servers,
            up=count.up,
            pools_down=list(count.pools_down),
            generation=generation,
            paused=_paused(overrides),
            digest=self._agreement.digest.hex(),
            words=self._digest(overrides),
            reasons=reasons,
        )

    def _count(self, applied: DesiredState | None) -> Count:
        if applied is None:
            return Count(0, 0, {})
        if self._counted is None or self._counted[0] is not applied:
            self._counted = (applied, counted(applied))
        return self._counted[1]

    def _digest(self, overrides: Overrides) -> str:
        if self._digested[0] is not overrides:
            said = sorted((what, word.until or 0.0) for what, word in overrides.words())
            self._digested = (overrides, sha256(json.dumps(said).encode()).hexdigest()[:16])
        return self._digested[1]

    def _figures(self) -> Stats:
        now = self._steady()
        if self._read is None or now - self._read[0] >= _FRESH:
            self._read = (now, self._stats())
        return self._read[1]


_TOLD = Group[Pair, RoleTold | None](
    (),
    lambda pair: [((), pair.told)],
    GaugeBy(
        "mailweir_ha_role",
        "1 for the role that this node was told to have in a pair; 0 for all before that.",
        "role",
        lambda told: {role.value: told is not None and told.role is role for role in HaRole},
    ),
)


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
    pools = [pool for pool in state.pools if pool.name in used]
    down = {pool.name: why_none(pool.name, pool.servers) for pool in pools}
    return Count(
        len(servers),
        sum(map(takes, servers)),
        {name: why for name, why in down.items() if why},
    )
