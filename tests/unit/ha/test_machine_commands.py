"""The state machine of a node: what preempt and operators want of it, and what it is told late."""

from typing import Any

import pytest

from mailweir.ha.machine.facts import BalancerHealth, Command, Drop
from mailweir.ha.machine.wire import Flag, Kind, State
from unit.ha.pairs import (
    HEALTHY,
    OK,
    SICK,
    STANDBY,
    Table,
    active,
    command,
    released,
    standing_by,
    with_standby,
)

# --- preempt -----------------------------------------------------------------------------


def test_a_higher_priority_alone_moves_nothing() -> None:
    table = with_standby()
    table.wait(600, priority=200, configured=200, **STANDBY)
    assert table.state is State.ACTIVE


def test_preempt_moves_them_after_its_delay() -> None:
    table = with_standby(preempt=True)
    took = table.wait(600, until=State.RELEASING, priority=200, configured=200, **STANDBY)
    assert took == pytest.approx(60, abs=0.3)
    assert table.why == "b has the higher priority (preempt)"


@pytest.mark.parametrize(
    "told",
    [
        {"priority": 150, "configured": 200},  # it would give them back for its penalty
        {"flags": HEALTHY & ~Flag.GATEWAY_OK, "priority": 200, "configured": 200},
        {"pair_digest": b"another.", "priority": 200, "configured": 200},
        {"priority": 100, "configured": 100},
        {"state": State.MAINT, "priority": 200, "configured": 200},
    ],
)
def test_preempt_is_for_a_peer_that_could_keep_them(told: dict[str, Any]) -> None:
    table = with_standby(preempt=True)
    table.wait(200, **{**STANDBY, **told})
    assert table.state is State.ACTIVE


def test_preempt_waits_anew_after_the_peer_was_away() -> None:
    table = with_standby(preempt=True)
    table.wait(57, priority=200, configured=200, **STANDBY)
    table.wait(3)
    table.wait(59, priority=200, configured=200, **STANDBY)
    assert table.state is State.ACTIVE


# --- commands ------------------------------------------------------------------------------


def test_a_switch_of_the_active_node() -> None:
    table = with_standby()
    assert command(table, Command.SWITCH) == ""
    released(table)
    assert (table.state, table.why) == (State.BACKUP, "an operator wants it so")


def test_a_switch_of_the_other_node_asks_the_active_one() -> None:
    table = standing_by()
    assert command(table, Command.SWITCH) == ""
    assert len(table.said(Kind.CLAIM)) == 3
    assert table.state is State.BACKUP


def test_a_claim_is_obeyed_once() -> None:
    table = with_standby()
    for _ in range(3):
        table.hear(kind=Kind.CLAIM, **STANDBY)
    assert (table.state, table.why, table.count(Drop)) == (State.RELEASING, "b asked for it", 1)


NO: dict[str, dict[str, Any] | None] = {
    "nothing is heard of b": None,
    "b is in maintenance": {"state": State.MAINT},
    "b doesn't hear this node": {"state": State.BACKUP, "echo_seq": 1},
    "b has no carrier": {"flags": HEALTHY & ~Flag.CARRIER_OK},
    "the balancer of b doesn't serve": {"flags": HEALTHY & ~Flag.DATAPLANE_OK},
    "no gateway answers b": {"flags": HEALTHY & ~Flag.GATEWAY_OK},
    "`ha` in the file of b isn't the same: make both files alike, then send HUP to"
    " `mailweir ha run` on both": {"pair_digest": b"another."},
    "the balancer of b runs with another configuration: make both files alike, then reload both": {
        "config_digest": b"another."
    },
}


@pytest.mark.parametrize("why", NO)
def test_a_switch_that_is_refused(why: str) -> None:
    table = active()
    told = NO[why]
    table.learn(health=BalancerHealth(ok=True, why="", config_digest=b"this one"))
    if told is None:
        table.wait(3)
    else:
        table.wait(3, **{**STANDBY, **told})
    assert command(table, Command.SWITCH) == why
    assert table.state is State.ACTIVE
    if told is not None and "state" not in told:
        table.hear(kind=Kind.CLAIM, **{**STANDBY, **told})
        assert table.state is State.ACTIVE


def test_a_switch_by_a_node_that_could_not_keep_them() -> None:
    table = standing_by()
    table.learn(health=SICK)
    assert command(table, Command.SWITCH) == "no worker is alive"
    table = standing_by(gateways=True)
    table.learn(gateway_answers=False)
    assert command(table, Command.SWITCH) == "no gateway answers here, and b reaches one"
    assert not table.said(Kind.CLAIM)


def test_maintenance() -> None:
    table = with_standby()
    assert command(table, Command.MAINT) == ""
    released(table)
    assert (table.state, table.why) == (State.MAINT, "an operator wants it so")
    table.wait(60)
    assert table.state is State.MAINT
    why = "this node is in maintenance: `mailweir ha ready` first"
    assert command(table, Command.SWITCH) == why
    assert command(table, Command.READY) == ""
    assert (table.state, table.why) == (State.INIT, "an operator ended the maintenance")
    table.wait(5, until=State.CANDIDATE)


def test_maintenance_of_the_only_node_is_refused() -> None:
    table = active()
    assert command(table, Command.MAINT) == "nothing is heard of b"
    assert command(table, Command.STOP) == ""


def test_maintenance_of_a_node_that_stands_by() -> None:
    table = standing_by()
    assert command(table, Command.MAINT) == ""
    assert table.state is State.MAINT
    table.wait(30)
    assert table.state is State.MAINT


def test_ready_before_the_addresses_are_gone() -> None:
    table = with_standby()
    command(table, Command.MAINT)
    assert command(table, Command.READY) == ""
    released(table)
    assert table.state is State.INIT


def test_nothing_is_due_but_the_next_hello_where_nothing_is_to_come() -> None:
    table = Table()
    command(table, Command.MAINT)
    table.wait(10)
    assert table.machine.deadline() - table.now <= 0.2


def test_health_that_comes_late_is_waited_for() -> None:
    table = Table(healthy=False)
    table.wait(10)
    assert (table.state, table.why) == (
        State.BACKUP,
        "the addresses' devices weren't looked at yet",
    )
    table.learn(carrier_lost="")
    assert table.why == "the balancer wasn't asked yet"
    table.learn(health=OK)
    assert table.state is State.CANDIDATE
