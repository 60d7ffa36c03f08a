"""The state machine where things go wrong: both nodes active, a node that stood still, addresses
that disappear, and strict mode, in which nobody is active without somebody else's word.
"""

from typing import Any

import pytest

from mailweir.ha.machine.facts import Announce, BalancerHealth, Command, Drop, Holder, Probe, Take
from mailweir.ha.machine.wire import WITNESS, Flag, Kind, State
from unit.ha.pairs import (
    ACTIVE,
    HEALTHY,
    OK,
    STANDBY,
    Table,
    active,
    candidate,
    command,
    released,
    with_standby,
)

SICK = BalancerHealth(ok=False, why="no worker is alive")

# --- both active ------------------------------------------------------------------------

WORSE: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "only the balancer of b serves": (
        {"health": SICK},
        {},
        {"flags": HEALTHY & ~Flag.DATAPLANE_OK},
    ),
    "only b reaches a gateway or the witness": (
        {"gateway_answers": False},
        {},
        {"flags": HEALTHY & ~Flag.GATEWAY_OK},
    ),
    "b took over later": ({}, {"term": 9}, {"term": 0}),
    "b has the higher priority": ({}, {"priority": 101}, {"priority": 99}),
}


@pytest.mark.parametrize("why", WORSE)
def test_the_worse_of_two_active_nodes_lets_go(why: str) -> None:
    facts, told, _ = WORSE[why]
    table = active(gateways=True)
    table.learn(**facts)
    table.hear(**{**ACTIVE, **told})
    assert (table.state, table.why) == (State.RELEASING, f"both were active, and {why}")


@pytest.mark.parametrize("why", WORSE)
def test_the_better_of_two_active_nodes_speaks_up(why: str) -> None:
    _, _, told = WORSE[why]
    table = active(gateways=True)
    table.hear(**{**ACTIVE, **told})
    assert table.state is State.ACTIVE
    assert table.alarms["conflict"] == "b is active as well"
    assert (len(table.said()), table.count(Announce)) == (1, 1)
    released_by_peer(table)
    assert "conflict" not in table.alarms


def released_by_peer(table: Table) -> None:
    table.hear(kind=Kind.RELEASE, **STANDBY)
    assert table.state is State.ACTIVE


def test_of_two_equal_nodes_the_first_by_name_stays() -> None:
    table = active()
    table.hear(**ACTIVE)
    assert table.state is State.ACTIVE


def test_a_conflict_with_a_deaf_peer_ends_as_well() -> None:
    """It can't hear who is to stay, so it never lets go."""
    table = active()
    deaf: dict[str, Any] = {**ACTIVE, "term": 0, "flags": HEALTHY | Flag.HOLDS | Flag.DEAF}
    took = table.wait(30, until=State.RELEASING, **deaf)
    assert took == pytest.approx(2.0, abs=0.21)
    assert table.why == "both were active, and b hears nothing, so it can't be the one to let go"


def test_a_deaf_peer_that_can_not_serve_is_no_reason() -> None:
    table = active()
    deaf: dict[str, Any] = {**ACTIVE, "term": 0, "flags": Flag.CARRIER_OK | Flag.HOLDS | Flag.DEAF}
    table.wait(30, **deaf)
    assert table.state is State.ACTIVE


def test_a_peer_that_was_deaf_for_a_moment_gives_way_itself() -> None:
    table = active()
    table.wait(1.0, **{**ACTIVE, "term": 0, "flags": HEALTHY | Flag.HOLDS | Flag.DEAF})
    table.wait(0.4, **STANDBY)
    table.wait(1.5, **{**ACTIVE, "term": 0, "flags": HEALTHY | Flag.HOLDS | Flag.DEAF})
    assert table.state is State.ACTIVE


# --- standing still --------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1.0, 1.9])
def test_standing_still_within_the_lease(seconds: float) -> None:
    table = with_standby()
    table.stand_still(seconds)
    table.wait(1, **STANDBY)
    assert table.state is State.ACTIVE
    assert table.count(Drop) == 0


@pytest.mark.parametrize("seconds", [2.1, 3.0, 10.0])
def test_standing_still_for_longer(seconds: float) -> None:
    table = with_standby()
    table.stand_still(seconds)
    table.hear(**ACTIVE)
    table.do(table.machine.tick(table.now))
    assert table.why == f"it stood still for {seconds:.1f} s, and the lease may be over"
    assert all(one.state is not State.ACTIVE for one in table.said())
    released(table)
    table.wait(5, **ACTIVE)
    assert (table.state, table.why) == (State.BACKUP, "b is active")
    assert (table.count(Drop), table.count(Take)) == (1, 0)


def test_standing_still_where_dead_is_longer_than_the_lease() -> None:
    table = active(dead=10.0, lease=2.0)
    table.stand_still(2.5)
    table.do(table.machine.tick(table.now))
    assert (table.state, table.count(Drop)) == (State.RELEASING, 1)


def test_standing_still_while_they_are_taken() -> None:
    table = candidate()
    table.answer(Probe, Holder.NOBODY, "")
    table.stand_still(5)
    table.answer(Take)
    assert (table.state, table.count(Drop), table.machine.known.takeovers) == (
        State.RELEASING,
        1,
        0,
    )


def test_who_stood_still_listens_before_it_takes_over() -> None:
    standby = Table()
    standby.wait(1, **ACTIVE)
    standby.stand_still(10)
    standby.forget()
    standby.do(standby.machine.tick(standby.now))
    assert standby.state is State.BACKUP
    assert Flag.STALLED in standby.said()[0].flags
    assert standby.wait(5, until=State.CANDIDATE) == pytest.approx(2.0)


# --- addresses ----------------------------------------------------------------------------


def test_an_address_removed_by_hand_is_added_once() -> None:
    table = active()
    table.do(table.machine.gone("192.0.2.10", table.now))
    table.do(table.machine.gone("192.0.2.11", table.now))
    assert (table.state, table.count(Take)) == (State.ACTIVE, 1)
    table.answer(Take)
    assert (table.state, table.machine.known.takeovers) == (State.ACTIVE, 1)
    assert table.count(Announce) == 1
    table.wait(5)
    table.do(table.machine.gone("192.0.2.10", table.now))
    released(table)
    assert (table.state, table.why) == (State.FAULT, "192.0.2.10 was removed again and again")
    assert table.wait(60, until=State.CANDIDATE) == pytest.approx(10, abs=0.3)


def test_an_address_removed_now_and_then_is_added_each_time() -> None:
    table = active()
    for _ in range(3):
        table.do(table.machine.gone("192.0.2.10", table.now))
        table.answer(Take)
        table.wait(11)
    assert table.state is State.ACTIVE


def test_what_goes_while_it_is_given_up_is_no_trouble() -> None:
    table = with_standby()
    command(table, Command.SWITCH)
    table.do(table.machine.gone("192.0.2.10", table.now))
    assert table.count(Take) == 0


def test_somebody_else_who_claims_an_address_is_answered() -> None:
    table = active()
    table.do(table.machine.claimed("192.0.2.10", "02::99", table.now))
    assert (table.state, table.count(Announce)) == (State.ACTIVE, 1)
    assert table.alarms["claimed"] == (
        "02::99 says that it has 192.0.2.10; the neighbours are told"
    )
    table.wait(61)
    assert "claimed" not in table.alarms


def test_a_claim_means_nothing_to_a_node_that_stands_by() -> None:
    table = Table()
    table.do(table.machine.claimed("192.0.2.10", "02::99", table.now))
    assert (table.count(Announce), table.alarms) == (0, {})


def test_neighbours_are_told_when_the_carrier_is_back() -> None:
    table = candidate()
    table.answer(Probe, Holder.NOBODY, "")
    table.answer(Take)
    table.learn(carrier_lost="")
    assert table.count(Announce) == 1  # it wasn't lost


# --- alarms ------------------------------------------------------------------------------


def test_alarms_come_and_go() -> None:
    table = with_standby()
    table.learn(health=BalancerHealth(ok=True, why="", config_digest=b"this one"))
    table.hear(link=2, **STANDBY)
    assert table.alarms == {}
    table.wait(3, config_digest=b"another.", **STANDBY)
    assert table.alarms == {
        "differs": "the balancer of b runs with another configuration: make both files alike, then"
        " reload both",
        "link lan": "nothing is heard of b on link lan",
    }
    table.wait(3, echo_seq=1, **STANDBY)
    assert table.alarms["deaf"] == "b is heard but doesn't hear this node"
    table.wait(3)
    # What is worse is said, and of what was wrong before nothing is known to be over.
    assert set(table.alarms) == {"silent", "deaf", "link lan"}
    assert table.alarms["silent"] == "nothing is heard of b on any link"
    table.wait(0.5, **STANDBY)
    table.hear(link=2, **STANDBY)
    assert table.alarms == {}


# --- strict mode --------------------------------------------------------------------------

STRICT: dict[str, Any] = {"witness": True, "strict": True}
GRANT: dict[str, Any] = {
    "sender": WITNESS,
    "link": 0,
    "state": State.WITNESS,
    "flags": HEALTHY | Flag.GRANTED,
}
VOTE: dict[str, Any] = {"state": State.BACKUP, "flags": HEALTHY | Flag.GRANTED}


def wanting() -> Table:
    """A candidate that heard nobody but the witness, and has no leave yet."""
    table = Table(**STRICT)
    table.wait(6)
    table.hear(**{**GRANT, "flags": HEALTHY})
    table.wait(2, until=State.CANDIDATE)
    assert table.state is State.CANDIDATE
    table.wait(0.3)
    return table


def strictly_active() -> Table:
    table = wanting()
    table.hear(**GRANT)
    table.answer(Probe, Holder.NOBODY, "")
    table.answer(Take)
    assert table.state is State.ACTIVE
    table.forget()
    return table


def test_nobody_is_active_without_leave() -> None:
    table = wanting()
    table.wait(60)
    assert (table.count(Probe), table.count(Take)) == (0, 0)
    assert table.alarms["quorum"] == "neither the peer nor the witness gives leave to be active"


def test_a_silent_peer_is_waited_for_until_its_lease_is_over_for_certain() -> None:
    table = Table(**STRICT)
    table.wait(0.5, **ACTIVE)
    table.hear(**{**GRANT, "flags": HEALTHY})
    table.wait(6.4, **{**GRANT, "flags": HEALTHY})
    assert table.state is State.BACKUP


def test_a_grant_is_leave() -> None:
    table = wanting()
    table.hear(**GRANT)
    assert table.count(Probe) == 1


def test_a_grant_for_what_was_asked_before_is_none() -> None:
    """It answers a hello of an earlier candidacy."""
    table = wanting()
    old = table.machine.known.sent.seq
    table.hear(**ACTIVE)
    assert table.state is State.BACKUP
    table.hear(state=State.MAINT)
    table.wait(1, until=State.CANDIDATE, state=State.MAINT)
    table.hear(**{**GRANT, "echo_seq": old})
    table.wait(0.1)
    assert (table.state, table.count(Take)) == (State.CANDIDATE, 0)


def test_a_vote_is_leave_if_it_echoes_the_candidacy() -> None:
    table = wanting()
    table.hear(**{**VOTE, "echo_seq": 1})
    assert table.count(Probe) == 0
    table.hear(**VOTE)
    assert table.count(Probe) == 1


def test_a_standby_that_says_no_word_of_leave_gives_none() -> None:
    table = wanting()
    table.hear(**STANDBY)
    assert table.count(Probe) == 0


def test_leave_is_asked_for_again_after_the_probe() -> None:
    table = wanting()
    table.hear(**GRANT)
    table.wait(3.1)
    table.hear(**{**GRANT, "flags": HEALTHY})
    table.answer(Probe, Holder.NOBODY, "")
    assert (table.state, table.count(Take)) == (State.CANDIDATE, 0)


def test_leave_that_ends_while_they_are_taken() -> None:
    table = wanting()
    table.hear(**GRANT)
    table.answer(Probe, Holder.NOBODY, "")
    assert table.count(Take) == 1
    table.wait(3.2)
    assert (table.state, table.count(Drop)) == (State.RELEASING, 1)


def test_without_leave_they_are_given_up() -> None:
    table = strictly_active()
    assert table.wait(10, until=State.RELEASING) <= 3.0
    assert table.why == "neither the peer nor the witness confirms that it may be active"


@pytest.mark.parametrize("told", [GRANT, VOTE])
def test_one_of_the_two_is_enough(told: dict[str, Any]) -> None:
    table = strictly_active()
    for _ in range(100):
        table.wait(0.2)
        table.hear(**told)
    assert table.state is State.ACTIVE


def test_leave_does_not_outlive_the_candidacy() -> None:
    table = strictly_active()
    table.hear(**GRANT)
    table.wait(0.4, **VOTE)
    command(table, Command.SWITCH)
    released(table)
    table.forget()
    table.wait(2, state=State.CANDIDATE)
    assert table.count(Take) == 0


def test_who_stands_by_gives_leave_and_keeps_its_word() -> None:
    table = Table(**STRICT)
    table.wait(8, **STANDBY, priority=200)
    table.forget()
    table.hear(state=State.CANDIDATE, priority=200)
    assert table.machine.deadline() <= table.now
    table.wait(0.01)
    assert Flag.GRANTED in table.said()[-1].flags
    assert Flag.GRANTED not in table.said(to_witness=True)[-1].flags
    assert table.machine.known.promised_until == pytest.approx(table.now + 7, abs=0.1)


def test_who_is_better_gives_no_leave_to_a_candidate() -> None:
    table = Table(**STRICT)
    table.wait(0.3, **STANDBY)
    table.forget()
    table.wait(0.3, state=State.CANDIDATE, priority=50)
    assert all(Flag.GRANTED not in one.flags for one in table.said())


def test_who_gave_its_word_is_not_active_before_it_is_over() -> None:
    """The peer may be active by it, whatever is heard of it since."""
    table = Table(**STRICT)
    table.wait(0.3, **STANDBY, priority=200)
    table.wait(0.3, state=State.CANDIDATE, priority=200)
    gave = table.now
    table.wait(1, until=State.CANDIDATE, state=State.CANDIDATE, priority=50)
    assert table.state is State.CANDIDATE
    table.forget()
    while table.now < gave + 6.5:
        table.wait(0.2)
        table.hear(**GRANT)
    assert table.count(Probe) == 0
    table.wait(1)
    table.hear(**GRANT)
    assert table.count(Probe) == 1


def test_who_needs_the_word_no_more_sets_the_other_free() -> None:
    table = Table(**STRICT)
    table.wait(0.5, **ACTIVE)
    table.hear(kind=Kind.RELEASE, **STANDBY)
    assert table.state is State.CANDIDATE
    table.wait(0.1)
    table.hear(**VOTE)
    assert (table.count(Probe), table.count(Take)) == (0, 1)


def test_who_lets_go_gives_no_leave_before_the_addresses_are_gone() -> None:
    table = strictly_active()
    table.wait(0.4, **VOTE)
    table.forget()
    command(table, Command.SWITCH)
    table.wait(0.5, state=State.CANDIDATE)
    assert all(Flag.GRANTED not in one.flags for one in table.said())
    table.answer(Drop)
    table.wait(0.3, state=State.CANDIDATE)
    assert Flag.GRANTED in table.said()[-1].flags


def test_a_node_in_maintenance_gives_leave() -> None:
    table = Table(**STRICT)
    command(table, Command.MAINT)
    table.wait(0.5, state=State.CANDIDATE, priority=1)
    assert Flag.GRANTED in table.said()[-1].flags


def test_nothing_is_granted_where_it_is_not_strict() -> None:
    table = Table(witness=True)
    table.learn(health=OK)
    table.wait(0.5, **ACTIVE)
    assert all(Flag.GRANTED not in one.flags for one in table.said())
