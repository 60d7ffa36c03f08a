"""The state machine of a node: a balancer that takes no new sessions, here or there, and what is
told while nobody could take over.
"""

from dataclasses import replace
from typing import Any

import pytest

from mailweir.ha.machine.facts import BalancerHealth, Command, Facts, Take
from mailweir.ha.machine.wire import Flag, Kind, State, Trouble
from mailweir.ha.telling import explain
from unit.ha.pairs import (
    HEALTHY,
    OK,
    STANDBY,
    Table,
    active,
    command,
    released,
    standing_by,
    with_standby,
)

DRAINS = BalancerHealth(ok=True, away=True, why="`mailweir run` drains", sessions=3)
PAUSED = BalancerHealth(ok=True, why="", paused="by root")
AWAY: dict[str, Any] = {
    "state": State.BACKUP,
    "flags": HEALTHY & ~Flag.DATAPLANE_OK,
    "trouble": Trouble.AWAY,
}


@pytest.mark.parametrize("release", [True, False])
def test_who_drains_takes_nothing(release: bool) -> None:
    table = standing_by()
    table.learn(health=DRAINS)
    if release:
        table.hear(kind=Kind.RELEASE, **STANDBY)
    table.wait(60)
    assert (table.state, table.count(Take), table.why) == (State.BACKUP, 0, DRAINS.why)
    said = table.said()[-1]
    assert (Flag.DATAPLANE_OK in said.flags, said.trouble) == (False, Trouble.AWAY)
    table.learn(health=OK)
    assert table.state is State.CANDIDATE


def test_who_drains_keeps_what_it_has_until_its_time_is_over() -> None:
    table = with_standby()
    table.learn(health=DRAINS)
    table.wait(5, **STANDBY)
    assert table.state is State.ACTIVE
    assert Flag.DATAPLANE_OK in table.said()[-1].flags
    assert table.alarms["balancer"] == DRAINS.why
    table.learn(health=replace(DRAINS, ok=False))
    assert (table.state, table.machine.known.lost_sessions) == (State.RELEASING, 3)


def test_who_drains_keeps_them_where_nobody_could_take_them() -> None:
    table = with_standby()
    table.wait(1, **AWAY)
    table.learn(health=replace(DRAINS, ok=False))
    table.wait(60, **AWAY)
    assert table.state is State.ACTIVE


TROUBLES: dict[str, dict[str, Any]] = {
    "the balancer of b drains, or begins anew": AWAY,
    "the balancer of b doesn't serve": {**STANDBY, "flags": HEALTHY & ~Flag.DATAPLANE_OK},
    "b is in maintenance": {"state": State.MAINT},
    "the balancer of b is paused": {**STANDBY, "trouble": Trouble.PAUSED, "priority": 50},
    "b sees no server of a pool": {**STANDBY, "trouble": Trouble.NO_SERVER, "priority": 50},
}


@pytest.mark.parametrize("why", TROUBLES)
def test_lost_redundancy_is_an_alarm_and_a_switch_is_refused(why: str) -> None:
    table = with_standby()
    table.wait(1.9, **TROUBLES[why])
    assert "standby" not in table.alarms
    table.wait(0.5, **TROUBLES[why])
    assert table.alarms["standby"] == f"b couldn't take over: {why}"
    assert command(table, Command.SWITCH).startswith(why)
    table.wait(0.5, **STANDBY)
    assert "standby" not in table.alarms


@pytest.mark.parametrize("why", TROUBLES)
def test_a_switch_that_is_forced(why: str) -> None:
    table = with_standby()
    table.wait(0.5, **TROUBLES[why])
    refusal, actions = table.machine.command(Command.SWITCH, table.now, force=True)
    table.do(actions)
    if TROUBLES[why]["state"] is State.MAINT:
        assert (refusal, table.state) == (why, State.ACTIVE)
        return
    released(table)
    assert (refusal, table.state) == ("", State.BACKUP)
    assert {one.trouble for one in table.said(Kind.RELEASE)} == {Trouble.FORCED}


def test_what_is_forced_is_taken_and_kept() -> None:
    table = standing_by()
    table.learn(health=replace(DRAINS, ok=False))
    table.hear(kind=Kind.RELEASE, trouble=Trouble.FORCED, **STANDBY)
    table.answer(Take)
    table.wait(60, **STANDBY)
    states = [table.state]
    # Once it is well it counts as any other.
    table.learn(health=OK)
    table.learn(health=replace(DRAINS, ok=False))
    assert [*states, table.state] == [State.ACTIVE, State.RELEASING]


def test_a_claim_is_forced_by_who_claims() -> None:
    table = with_standby()
    states = []
    for trouble in (Trouble.AWAY, Trouble.AWAY | Trouble.FORCED):
        table.hear(kind=Kind.CLAIM, **{**AWAY, "trouble": trouble})
        states.append(table.state)
    assert (states, table.why) == ([State.ACTIVE, State.RELEASING], "b asked for it")


def test_a_pause_moves_nothing_but_ranks_lower() -> None:
    table = with_standby()
    table.learn(health=PAUSED)
    table.wait(60, **STANDBY)
    assert (table.state, table.said()[-1].priority) == (State.ACTIVE, 100)
    assert table.alarms["balancer"] == (
        "`mailweir run` is paused by root: it refuses new sessions; `mailweir ha switch` moves the"
        " addresses"
    )
    table = Table()
    table.learn(health=PAUSED)
    table.wait(5, **STANDBY)
    assert (table.state, table.why) == (State.BACKUP, "b is to become active")
    assert table.said()[-1].priority == 50


def test_a_crash_is_one_alarm() -> None:
    table = with_standby()
    for _ in range(20):
        for link in (1, 2):
            table.hear(link=link, **STANDBY)
        table.wait(0.2)
    table.forget()
    table.wait(10)
    assert table.alarms == {"silent": "nothing is heard of b on any link"}
    said = [one.reason for one in table.actions if hasattr(one, "reason")]
    assert said == ["nothing is heard of b on any link"]


def test_nothing_is_over_as_something_worse_begins() -> None:
    table = with_standby()
    table.wait(5, link=2, **TROUBLES["the balancer of b doesn't serve"])
    before = dict(table.alarms)
    assert set(before) == {"standby", "link cross"}
    table.forget()
    table.wait(10)
    assert table.alarms == {**before, "silent": "nothing is heard of b on any link"}
    assert "alarm is over" not in [getattr(one, "event", "") for one in table.actions]


def test_who_could_not_know_says_that_it_would_not() -> None:
    table = standing_by(gateways=True)
    table.learn(gateway_answers=False)
    assert explain(table.machine.known, table.now)["peer"] == (
        "It would not take over: no gateway answers."
    )
    table = active(gateways=True)
    table.learn(gateway_answers=True)
    table.wait(3, **{**STANDBY, "flags": HEALTHY & ~Flag.GATEWAY_OK})
    assert explain(table.machine.known, table.now)["peer"] == (
        "Nobody could take over now: no gateway answers b."
    )
    assert table.alarms["standby"] == "b couldn't take over: no gateway answers b"


def test_a_key_that_differs_is_named() -> None:
    table = Table()
    why = (
        "what comes from b over link cross isn't sealed with this node's key 3: is the file of key"
        " 3 (`ha.keys`) the same on both nodes?"
    )
    table.do(table.machine.misheard(1, 3, table.now))
    assert "key" not in table.alarms  # it may be on its way
    table.wait(3)
    table.do(table.machine.misheard(1, 3, table.now))
    assert table.alarms["key"] == why
    table.wait(61)
    assert "key" not in table.alarms


def test_links_that_can_not_be_used_yet() -> None:
    table = Table()
    absent = {1: "this machine doesn't have 198.51.100.1", 2: "this machine doesn't have 192.0.2.1"}
    table.do(table.machine.learn(table.now, Facts(absent_links=absent)))
    table.wait(30)
    assert (table.state, table.why) == (
        State.BACKUP,
        "none of its links can be used: this machine doesn't have 198.51.100.1; this machine"
        " doesn't have 192.0.2.1",
    )
    # From here on it can be heard whether the peer lives.
    table.do(table.machine.learn(table.now, Facts(absent_links={1: absent[1]})))
    assert table.wait(10, until=State.CANDIDATE) == pytest.approx(2.0, abs=0.01)
    assert table.alarms["link cross"] == f"link cross can't be used: {absent[1]}"
    assert "link lan" not in table.alarms


def test_what_differs_is_named_once_the_peer_has_said_it() -> None:
    mine = {"ha.timers.dead": b"abc", "ha.preempt": b""}
    table = with_standby(parts=mine, pair_digest=b"mine....")
    known = table.machine.known
    table.wait(3, **STANDBY)
    assert table.alarms["differs"].startswith("`ha` in the file of b isn't the same")
    told: dict[str, Any] = {
        "parts": 1,
        "part": known.message(Kind.HELLO, table.now).part,
        "part_digest": b"xyz",
    }
    table.hear(**STANDBY, **told)
    assert table.alarms["differs"].startswith("`ha.timers.dead` in the file of b isn't the same")
