"""A Situation to ask the admin side about."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from msgspec import structs
from prometheus_client import CollectorRegistry

from mailweir.admin.balancer import Change
from mailweir.admin.digests import Digests
from mailweir.admin.ha_role import NodeRole
from mailweir.admin.node_health import HealthReader, NodeHealth
from mailweir.config.address import Address, parse_server
from mailweir.config.model import MAIN_CHECK
from mailweir.config.words import CheckKind, Decides
from mailweir.operator import Operator, Speaker
from mailweir.reload import Difference, ReloadOutcome
from mailweir.situation import CheckTold, RoleTold, Situation
from mailweir.spec import ServerKey, ServerState
from mailweir.state.desired import Health, fold
from mailweir.state.overrides import Overrides
from mailweir.stats import OverflowStats
from mailweir.upgrade.successor import UpgradeOutcome
from unit import figures
from unit.fakes import MINIMAL, NOTHING_SAID, ROOM, FakePlane, config

A, B = ServerKey("farm", "a"), ServerKey("farm", "b")


@dataclass(frozen=True)
class FakeCheck:
    """A check by EHLO that was made once."""

    verdict: Health
    step: str
    detail: str
    seconds: float = 0.0123
    at: float = 40.0
    alarm: str = ""
    certificate_end: float | None = None
    agent: str = ""
    cap: int | None = None
    wished: ServerState | None = None
    name: str = MAIN_CHECK
    kind: CheckKind = CheckKind.EHLO
    address: Address = parse_server("10.0.0.2:25")  # noqa: RUF009 - it is frozen
    decides: Decides = Decides.STATE

    @property
    def ok(self) -> bool:
        return self.verdict is Health.UP

    @property
    def health(self) -> Health:
        return self.verdict

    @property
    def results(self) -> Sequence["FakeCheck"]:
        return [self]


def situation(
    plane: FakePlane | None = None,
    *,
    up: str = "a",
    text: str = MINIMAL,
    overrides: Overrides = NOTHING_SAID,
    role: RoleTold | None = None,
) -> Situation:
    """One listener, one pool; the servers in `up` are up. Without `plane`, one that serves."""
    if plane is None:
        plane = FakePlane()
        health = {ServerKey("farm", name): Health.UP for name in up}
        plane.apply(fold(config(text), health, NOTHING_SAID, hostname="h", room=ROOM))
    checks: dict[ServerKey, list[CheckTold]] = {
        A: [FakeCheck(Health.UP, "", "")],
        B: [FakeCheck(Health.DOWN, "greeting", "421 <b>busy</b>")],
    }
    return Situation(
        version="1.2.3",
        hostname="lb1",
        pid=42,
        started=900.0,
        now=1000.0,
        moment=50.0,
        uptime=100.0,
        config_file="/etc/mailweir/mailweir.yaml",
        config=config(text),
        listening=bool(plane.applied),
        last_load=ReloadOutcome(True, 1, "1 listener, 1 pool, 2 servers", 901.0),
        stats=plane.stats(),
        read_servers=plane.servers,
        overrides=overrides,
        room="20000 descriptors",
        not_kept="",
        faults=(),
        lines_dropped=0,
        socket_problem="",
        checks=lambda key: checks.get(key, ()),
        ejection=lambda _: None,
        failing={},
        next_server=plane.next_server,
        admission=plane.admission,
        role=role,
        before=None,
    )


def busy() -> Situation:
    """The same with clients that are refused or wait, a server that starts slowly, a backup."""
    listener = figures.listener_stats(
        "mx",
        "192.0.2.1:25",
        ended={"denied": 9, "queue_timeout": 2, "client_quit": 80},
        would_refuse={"access": 0, "source_rate": 4},
        sources=structs.replace(figures.SOURCES, places=8, evicted=3, untracked=1),
    )
    ends = {"served": 10, "timeout": 2, "client_gone": 1, "full": 0}
    pool = figures.pool_stats("farm", waiting=6, queued=19, queue_ends=ends, sticky=figures.STICKY)
    pool = structs.replace(pool, overflow=OverflowStats("coming_back", 0.25, 2, {"spare": 7}))
    servers = [
        figures.server_stats("farm", "a", "10.0.0.1:25", 100, "up", ramp=0.358),
        figures.server_stats("farm", "b", "10.0.0.2:25", 100, "up", ramp=0.999, backup=True),
        figures.server_stats("farm", "c", "10.0.0.3:25", 100, "panic", ramp=0.5),
    ]
    stats = figures.stats(1, False, 3, [listener], pools=(pool,))
    return replace(situation(), stats=stats, read_servers=lambda: servers)


class FakeBalancer:
    """A process that can be asked and told; it remembers what it was told."""

    def __init__(self) -> None:
        self.now = situation()
        self.outcome = ReloadOutcome(True, 2, "nothing changed", 1000.0, warnings=("w",))
        self.reloads = 0
        self.upgraded = UpgradeOutcome(True, "process 7 serves", "1.2.4")
        self.told: list[str] = []
        self.problem = ""
        self.operator = Operator(lambda _: None)
        self.plane = FakePlane()
        self.plane.live = [figures.SESSION]
        self.digests = Digests()
        self.role = NodeRole(
            CollectorRegistry(), on_change=lambda _: None, clock=lambda: 990.0, steady=lambda: 40.0
        )
        self._health = HealthReader(
            lambda: self.now.stats,
            self.digests,
            started=900.0,
            steady=lambda: 40.0,
        )

    def situation(self, *, with_times: bool = False) -> Situation:
        said = self.operator.overrides
        words = said if any(said.words()) else self.now.overrides
        return replace(self.now, role=self.role.told, overrides=words)

    def health(self) -> NodeHealth:
        applied = fold(config(), {A: Health.UP}, NOTHING_SAID, hostname="h", room=ROOM)
        said = self.operator.overrides
        return self._health.read(applied, said, generation=1, ending=False)

    async def addresses_move(self) -> int:
        return 3

    async def reload(self) -> ReloadOutcome:
        self.reloads += 1
        return self.outcome

    async def upgrade(self) -> UpgradeOutcome:
        return self.upgraded

    async def difference(self) -> Difference:
        return Difference(("pool farm: server c added",), (), ("w",))

    async def operate(self, change: Change, *, what: str, speaker: Speaker) -> str:
        change(self.operator, self.now.config)
        self.told.append(what)
        return self.problem
