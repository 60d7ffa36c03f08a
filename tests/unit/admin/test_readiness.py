"""When new sessions may be sent here: at the node, at a listener, at a pool."""

from dataclasses import dataclass

import pytest

from mailweir.admin.readiness import unready, why_none, why_nowhere
from mailweir.spec import ServerKey
from mailweir.state.desired import Health, fold
from mailweir.state.overrides import Overrides, Word
from unit.admin.situations import situation
from unit.fakes import MINIMAL, NOTHING_SAID, ROOM, FakePlane, config

UNUSED = MINIMAL + "  spare:\n    servers: {x: 10.0.0.9:25}\n"


@dataclass(frozen=True)
class _Member:
    name: str
    state: str
    weight: int = 1


@pytest.mark.parametrize(
    ("servers", "why"),
    [
        ([_Member("a", "up"), _Member("b", "down")], ""),
        ([_Member("a", "down"), _Member("b", "panic")], "no server is up"),
        ([], "no server is up"),
        (
            [_Member("a", "maint"), _Member("b", "up", 0)],
            "no server takes new sessions: a is in state maint, b has weight 0",
        ),
        (
            [_Member("a", "drain"), _Member("b", "down")],
            "no server takes new sessions: a is in state drain, b is in state down",
        ),
        (
            [_Member("a", "drain"), _Member("b", "panic")],
            "no server is up: a is in state drain, b is down, and tried all the same",
        ),
        (
            [_Member(name, "maint") for name in "abcdef"],
            "no server takes new sessions: a is in state maint, b is in state maint,"
            " c is in state maint, d is in state maint, 2 more",
        ),
    ],
)
def test_why_new_sessions_find_no_server(servers: list[_Member], why: str) -> None:
    assert why_none("farm", servers) == (f"pool farm: {why}" if why else "")


def test_a_pool_whose_sessions_may_go_to_others() -> None:
    down, up = [_Member("a", "down")], [_Member("s", "up")]
    reason = "pool farm: no server is up"
    assert why_nowhere("farm", {"farm": down, "spare": up}, []) == reason
    assert why_nowhere("farm", {"farm": down, "spare": up}, ["spare"]) == ""
    assert why_nowhere("farm", {"farm": up, "spare": down}, ["spare"]) == ""
    assert why_nowhere("farm", {"farm": down, "spare": down}, ["spare", "gone"]) == (
        f"{reason}, nor does spare or gone take its sessions"
    )


def test_ready_with_one_server_up_in_each_used_pool() -> None:
    assert unready(situation()) == []
    assert unready(situation(text=UNUSED)) == []


def test_why_not_ready() -> None:
    assert unready(situation(up="")) == ["pool farm: no server is up"]
    assert unready(situation(FakePlane())) == ["starting: the listeners aren't open yet"]
    draining = FakePlane()
    draining.drain(to_successor=False)
    assert unready(situation(draining)) == ["draining: no new sessions are taken"]


def test_a_listener_that_is_paused_is_not_ready_and_makes_nobody_unready_alone() -> None:
    two = MINIMAL.replace("listeners:", "listeners:\n  in: {bind: [192.0.2.1:2525], pool: farm}")
    word = Word(by="anna", at=940.0)
    plane = FakePlane()
    health = {ServerKey("farm", "a"): Health.UP}
    plane.apply(fold(config(two), health, NOTHING_SAID, hostname="h", room=ROOM))
    one = situation(plane, text=two, overrides=Overrides(paused={"in": word}))
    assert (unready(one), unready(one, "mx")) == ([], [])
    assert unready(one, "in")[0].startswith("listener in: paused by anna")
    both = situation(plane, text=two, overrides=Overrides(paused={"in": word, "mx": word}))
    assert [reason.partition(":")[0] for reason in unready(both)] == ["listener in", "listener mx"]
