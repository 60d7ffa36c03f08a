"""A Situation to ask the admin side about."""

from dataclasses import dataclass

from mailweir.admin.views import LastCheck, ReloadOutcome, Situation
from mailweir.spec import ServerKey
from mailweir.state.desired import Health, fold
from unit.fakes import MINIMAL, FakePlane, config

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
        plane.apply(fold(config(text), health, hostname="h"))
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
