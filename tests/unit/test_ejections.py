"""What is looked at each second, what of it is said, and who is told."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from mailweir.admin.exposition import encode
from mailweir.admin.metrics import Metrics
from mailweir.config.model import MAIN_CHECK
from mailweir.ejections import Ejections, pool_seen
from mailweir.faults import Faults
from mailweir.health.check import Outcome
from mailweir.health.monitor import Result
from mailweir.health.outliers import Outliers, PoolSeen
from mailweir.health.target import CheckKey, targets
from mailweir.spec import DesiredState, ServerKey
from mailweir.state.desired import NO_WISH, Health, fold
from mailweir.state.overrides import Overrides, StateWord
from mailweir.stats import PoolConduct
from unit.admin import scraped
from unit.fakes import MINIMAL, NOTHING_SAID, ROOM, FakePlane, config

A, B = ServerKey("farm", "a"), ServerKey("farm", "b")
_UP = {A: Health.UP, B: Health.UP}


class _Counting(FakePlane):
    """It has counted what a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: dict[str, dict[str, int]] = {}

    def conduct(self) -> list[PoolConduct]:
        (pool,) = super().conduct()
        servers = [replace(one, **self.counted.get(one.name, {})) for one in pool.servers]
        bad = sum(one.refused + one.cut + one.in_vain for one in servers)
        return [replace(pool, bad=bad, servers=tuple(servers))]


class _Process:
    """Ejections with all that they tell."""

    def __init__(self) -> None:
        self.plane, self.now = _Counting(), 100.0
        self.metrics = Metrics(Faults(), version="1", started=0.0)
        self.metrics.keep({A, B})
        self.changes, self.hurried = 0, list[ServerKey]()
        self.outliers = Outliers()
        self.ejections = Ejections(
            self.outliers,
            self.plane,
            self.metrics,
            on_change=self._changed,
            hurry=self.hurried.append,
            is_told=lambda _: False,
            clock=lambda: self.now,
        )

    def _changed(self) -> None:
        self.changes += 1

    def look(self) -> None:
        """A second on."""
        self.now += 1
        state = self.state()
        self.plane.apply(state)
        self.ejections.look(config(), state)

    def state(self) -> DesiredState:
        """What runs."""
        out = self.outliers.ejected()
        return fold(config(), _UP, NOTHING_SAID, hostname="h", room=ROOM, ejected=out)

    def checked(
        self, check: str = MAIN_CHECK, verdict: Health = Health.UP, *, conclusive: bool = True
    ) -> None:
        """A check of `a` that began now."""
        step = "" if verdict is Health.UP else "connect"
        outcome = Outcome(verdict, step, "", 0.1, self.now, conclusive=conclusive)
        target = targets(config(), NOTHING_SAID)[CheckKey(A, MAIN_CHECK)]
        up = Health.UP
        key = CheckKey(A, check)
        self.ejections.checked(
            Result(key, target, outcome, up, up, up, up, (NO_WISH, NO_WISH), False, False)
        )


def test_from_a_row_of_failures_to_the_check_behind_it() -> None:
    process = _Process()
    with capture_logs() as logs:
        process.look()
        process.plane.counted = {
            "a": {"refused": 4, "cut": 1, "in_a_row": 5},
            "b": {"taken": 20},
        }
        process.look()
        process.look()
    assert logs == [
        {
            "event": "server ejected",
            "log_level": "warning",
            "server": "farm/a",
            "reason": "5 sessions failed in a row",
            "time": "30s",
            "times": 1,
        }
    ]
    assert (process.changes, process.hurried) == (1, [])
    samples = scraped.samples(encode(process.metrics.registry))
    name = "mailweir_server_ejections_total{pool=farm,reason=consecutive,server=a}"
    assert samples[name] == 1
    process.checked()
    assert process.changes == 1, "its time isn't over"

    process.now += 30
    process.look()
    assert process.hurried == [A]
    process.checked("further")
    process.checked(verdict=Health.DOWN)
    assert process.changes == 1
    with capture_logs() as logs:
        process.checked()
    (line,) = logs
    assert (line["event"], line["server"]) == ("server used again", "farm/a")
    assert process.changes == 2
    process.look()
    assert process.hurried == [A]


def test_want_of_something_of_ours_ends_an_ejection_too() -> None:
    """Where no check can be made nobody else would."""
    process = _Process()
    process.look()
    process.plane.counted = {"a": {"refused": 5, "in_a_row": 5}, "b": {"taken": 20}}
    process.look()
    process.checked(verdict=Health.DOWN, conclusive=False)
    assert process.changes == 1, "its time isn't over"
    process.now += 30
    with capture_logs() as logs:
        process.checked(verdict=Health.DOWN, conclusive=False)
    assert [one["reason"] for one in logs] == ["its time is over, and it can't be checked"]
    assert process.changes == 2


def test_that_servers_fail_and_are_used_is_said_once() -> None:
    process = _Process()
    with capture_logs() as logs:
        for second in range(40):
            process.plane.counted = {
                name: {"taken": 10 * second, "in_vain": 10 * second} for name in "ab"
            }
            process.look()
        process.plane.counted = {name: {"taken": 10**6, "in_vain": 400} for name in "ab"}
        process.look()
    assert [(one["event"], one["pool"]) for one in logs] == [
        ("servers fail sessions and are used all the same", "farm"),
        ("servers don't fail sessions any more", "farm"),
    ]
    assert logs[0]["servers"] == "a, b"
    samples = scraped.samples(encode(process.metrics.registry))
    assert samples["mailweir_pool_failing_servers{pool=farm}"] == 0


_BACKUP = MINIMAL + "      c: {address: 10.0.0.3:25, backup: true}\n"
_WEIGHTLESS = MINIMAL + "      c: {address: 10.0.0.3:25, weight: 0}\n"


@pytest.mark.parametrize(
    ("text", "up", "drain", "used", "meant"),
    [
        (MINIMAL, "ab", "", "ab", 2),
        (MINIMAL, "a", "", "a", 2),
        (_WEIGHTLESS, "abc", "", "ab", 2),
        (_BACKUP, "abc", "", "ab", 2),
        (_BACKUP, "ac", "", "a", 2),
        # The backup stands in, and there is no panic.
        (_BACKUP, "c", "", "c", 0),
        # What drains by a check counts for a panic, what an operator took out doesn't.
        (MINIMAL, "a", "b", "a", 2),
    ],
)
def test_who_is_in_use(text: str, up: str, drain: str, used: str, meant: int) -> None:
    state = _folded(text, up, drain)
    seen = _seen(text, state, told=())
    assert ("".join(one.name for one in seen.members if one.in_use), seen.meant) == (used, meant)


def test_what_an_operator_took_out_is_not_meant() -> None:
    word = StateWord(by="root", at=0.0, state="drain")
    state = _folded(MINIMAL, "ab", "", Overrides(states={"farm/b": word}))
    assert _seen(MINIMAL, state, told=(B,)).meant == 1


def _folded(text: str, up: str, drain: str, overrides: Overrides = NOTHING_SAID) -> DesiredState:
    health = {ServerKey("farm", name): Health.UP for name in up}
    health |= {ServerKey("farm", name): Health.DRAIN for name in drain}
    return fold(config(text), health, overrides, hostname="h", room=ROOM)


def _seen(text: str, state: DesiredState, told: Sequence[ServerKey]) -> PoolSeen:
    plane = FakePlane()
    plane.apply(state)
    (conduct,), (pool,) = plane.conduct(), state.pools
    return pool_seen(config(text).pools["farm"], pool, conduct, conduct, lambda key: key in told)
