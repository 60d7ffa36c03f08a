"""A Situation to ask the admin side about."""

from dataclasses import dataclass

from mailweir.admin.views import LastCheck, ReloadOutcome, Situation
from mailweir.errors import UnknownError
from mailweir.plane import Session
from mailweir.spec import ServerKey
from mailweir.state.desired import Health, fold
from unit.fakes import MINIMAL, FakePlane, FakeSession, config

A, B = ServerKey("farm", "a"), ServerKey("farm", "b")


@dataclass(frozen=True)
class FakeCheck:
    ok: bool
    step: str
    detail: str
    seconds: float = 0.0123
    at: float = 990.0


def situation(plane: FakePlane | None = None, *, up: str = "a", text: str = MINIMAL) -> Situation:
    """One listener, one pool; the servers in `up` are up. Without `plane`, one that serves."""
    if plane is None:
        plane = FakePlane()
        health = {ServerKey("farm", name): Health.UP for name in up}
        plane.apply(fold(config(text), health, hostname="h", max_sessions=9000))
    checks: dict[ServerKey, LastCheck] = {
        A: FakeCheck(True, "", ""),
        B: FakeCheck(False, "greeting", "421 <b>busy</b>"),
    }
    return Situation(
        version="1.2.3",
        pid=42,
        started=900.0,
        now=1000.0,
        config_file="/etc/mailweir/mailweir.yaml",
        config=config(text),
        listening=bool(plane.applied),
        last_load=ReloadOutcome(True, 1, "1 listener, 1 pool, 2 servers", 901.0),
        stats=plane.stats(),
        last_check=checks.get,
    )


class FakeBalancer:
    """A process that can be asked and told; it remembers what it was told."""

    def __init__(self) -> None:
        self.now = situation()
        self.outcome = ReloadOutcome(True, 2, "nothing changed", 1000.0, warnings=("w",))
        self.reloads = 0
        self.told: list[tuple[str, ServerKey]] = []
        self.plane = FakePlane()
        self.plane.live = [FakeSession()]

    def situation(self) -> Situation:
        return self.now

    async def reload(self) -> ReloadOutcome:
        self.reloads += 1
        return self.outcome

    async def drain(self, key: ServerKey) -> int:
        if key != A:
            raise UnknownError("there are a, b")
        self.told.append(("drain", key))
        return 3

    async def ready(self, key: ServerKey) -> int:
        self.told.append(("ready", key))
        return 4

    def sessions(
        self, *, listener: str | None, server: ServerKey | None, limit: int
    ) -> list[Session]:
        return self.plane.sessions(listener=listener, server=server, limit=limit)

    def kill(self, session: str) -> bool:
        return self.plane.kill(session)
