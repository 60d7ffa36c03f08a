"""The state machine of a node, told what a network and operators would tell it: each way from one
state to another, and the reason for it in words. Two machines that meet are simulated elsewhere.
"""

from typing import Any

import pytest

from mailweir.ha.machine.facts import Announce, Command, Drop, Fence, Holder, Probe, Take
from mailweir.ha.machine.wire import Flag, Kind, Refusal, State
from unit.ha.pairs import (
    ACTIVE,
    HEALTHY,
    POOR,
    SICK,
    STANDBY,
    Table,
    active,
    candidate,
    command,
    released,
    settings,
    standing_by,
    with_standby,
)

# --- to begin with, and crashes ------------------------------------------------------


def test_who_hears_nobody_waits_for_dead_and_takes_over() -> None:
    table = Table()
    assert table.wait(5, until=State.CANDIDATE) == pytest.approx(2.0)
    assert table.why == "b was silent on all links"
    assert (table.count(Probe), table.count(Take)) == (1, 0)
    table.answer(Probe, Holder.NOBODY, "")
    assert (table.state, table.count(Take)) == (State.CANDIDATE, 1)
    assert table.machine.known.holding
    table.answer(Take)
    assert (table.state, table.machine.known.takeovers) == (State.ACTIVE, 1)
    assert table.count(Announce) == 1
    assert table.said()[-1].state is State.ACTIVE
    assert Flag.HOLDS in table.said()[-1].flags


def test_who_hears_an_active_peer_stands_by() -> None:
    table = standing_by()
    table.wait(60, **ACTIVE)
    assert table.state is State.BACKUP
    assert table.count(Probe) == 0


def test_a_crash_is_noticed_after_dead() -> None:
    table = standing_by()
    table.hear(**ACTIVE)
    assert table.wait(10, until=State.CANDIDATE) == pytest.approx(2.0, abs=0.01)
    assert table.why == "b was silent on all links"


def test_one_link_is_enough() -> None:
    table = standing_by()
    table.wait(10, link=2, **ACTIVE)
    assert table.state is State.BACKUP
    assert table.alarms["link cross"] == "nothing is heard of b on link cross"


def test_the_worse_of_two_waits_for_the_better() -> None:
    table = Table()
    table.wait(5, priority=200, configured=200, **STANDBY)
    assert (table.state, table.why) == (State.BACKUP, "b is to become active")


def test_the_better_goes_after_a_moment() -> None:
    table = Table()
    took = table.wait(5, until=State.CANDIDATE, priority=50, configured=50, **STANDBY)
    assert took == pytest.approx(0.4 + 0.2 * 155 / 255, abs=0.01)


def test_who_sees_a_gateway_is_better() -> None:
    table = Table(gateways=True)
    table.learn(gateway_answers=True)
    flags = HEALTHY & ~Flag.GATEWAY_OK
    table.wait(1, until=State.CANDIDATE, flags=flags, priority=200, **STANDBY)
    assert table.state is State.CANDIDATE


@pytest.mark.parametrize("other", [State.FAULT, State.MAINT])
def test_who_could_become_active_alone_does(other: State) -> None:
    table = Table()
    table.wait(1, until=State.CANDIDATE, state=other, priority=200)
    assert (table.state, table.why) == (State.CANDIDATE, "neither node was active")


def test_a_new_life_of_the_peer_has_to_prove_itself() -> None:
    table = standing_by()
    table.wait(1.5)
    assert table.hear(epoch=0xD, seq=1, echo_epoch=0, echo_seq=0) is Refusal.UNPROVEN
    challenge = table.said()[-1]
    assert (challenge.echo_epoch, challenge.echo_seq) == (0xD, 1)
    assert table.wait(5, until=State.CANDIDATE) == pytest.approx(0.4, abs=0.15)


def test_a_twin_of_the_peer_is_an_alarm() -> None:
    table = standing_by()
    table.wait(0.4, epoch=0xD, **STANDBY)
    assert table.hear(epoch=0xBBBB, echo_seq=1) is Refusal.RETIRED
    assert "twice" not in table.alarms
    assert table.hear(epoch=0xBBBB) is Refusal.RETIRED
    assert table.alarms["twice"] == "two machines call themselves b; each needs its own name"
    table.wait(61)
    assert "twice" not in table.alarms


# --- a candidate ------------------------------------------------------------------------


def test_who_answers_for_the_addresses_keeps_them() -> None:
    table = candidate()
    table.answer(Probe, Holder.SERVING, "02::01 takes connections")
    assert table.alarms["held"] == "somebody has the addresses: 02::01 takes connections"
    table.wait(1.05)
    assert (table.state, table.count(Probe)) == (State.CANDIDATE, 2)
    table.answer(Probe, Holder.NOBODY, "")
    assert table.count(Take) == 1
    table.answer(Take)
    assert "held" not in table.alarms


def test_who_answers_but_takes_no_connection_has_them_until_the_lease_is_over() -> None:
    table = standing_by()
    table.wait(5, until=State.CANDIDATE)
    table.answer(Probe, Holder.SILENT, "02::01")
    assert table.count(Take) == 0
    table.wait(2.1)
    table.answer(Probe, Holder.SILENT, "02::01")
    assert table.count(Take) == 1


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (ACTIVE, "b is active"),
        ({"state": State.CANDIDATE, "priority": 200}, "b is the better one"),
    ],
)
@pytest.mark.parametrize("holding", [False, True])
def test_a_candidate_leaves_it_to_the_peer(told: dict[str, Any], why: str, holding: bool) -> None:
    table = candidate()
    if holding:
        table.answer(Probe, Holder.NOBODY, "")
    table.hear(**told)
    if holding:
        assert (table.state, table.count(Drop)) == (State.RELEASING, 1)
        table.answer(Drop)
    assert (table.state, table.count(Drop)) == (State.BACKUP, int(holding))


def test_a_candidate_that_is_better_goes_on() -> None:
    table = candidate()
    table.hear(state=State.CANDIDATE, priority=50)
    assert table.state is State.CANDIDATE


def test_what_is_found_late_counts_for_nothing() -> None:
    table = candidate()
    late = table.newest(Probe).ticket
    table.hear(**ACTIVE)
    table.do(table.machine.probed(late, Holder.NOBODY, "", table.now))
    assert (table.state, table.count(Take)) == (State.BACKUP, 0)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"health": SICK}, "no worker is alive"),
        ({"carrier_lost": "eth0 has no carrier"}, "eth0 has no carrier"),
    ],
)
def test_who_can_not_serve_does_not_become_active(facts: dict[str, Any], why: str) -> None:
    table = candidate()
    table.learn(**facts)
    assert (table.state, table.why) == (State.BACKUP, why)
    table.wait(60)
    assert table.state is State.BACKUP


def test_addresses_that_can_not_be_added_are_a_fault() -> None:
    table = candidate()
    table.answer(Probe, Holder.NOBODY, "")
    table.do(table.machine.failed("eth0: no such device", table.now))
    released(table)
    assert (table.state, table.why) == (State.FAULT, "eth0: no such device")
    assert table.wait(60, until=State.CANDIDATE) == pytest.approx(10, abs=0.3)


# --- guards ---------------------------------------------------------------------------


def test_who_sees_no_gateway_may_be_the_one_that_is_cut_off() -> None:
    table = Table(gateways=True)
    table.learn(gateway_answers=False)
    table.wait(60)
    why = "nothing is heard of b, and no gateway answers, so it may be a that is cut off"
    assert (table.state, table.why) == (State.BACKUP, why)
    table.learn(gateway_answers=True)
    assert table.state is State.CANDIDATE


def test_a_gateway_lost_before_the_probe_stops_it() -> None:
    table = Table(gateways=True)
    table.learn(gateway_answers=True)
    table.wait(5, until=State.CANDIDATE)
    table.learn(gateway_answers=False)
    table.answer(Probe, Holder.NOBODY, "")
    assert (table.state, table.count(Take)) == (State.BACKUP, 0)


def test_a_witness_is_as_good_as_a_gateway() -> None:
    table = Table(gateways=True, witness=True)
    table.learn(gateway_answers=False)
    assert table.wait(3, until=State.CANDIDATE) == pytest.approx(3)
    table.hear(link=0, sender=0xFFFF, state=State.WITNESS)
    assert table.state is State.CANDIDATE


def test_the_fence_has_to_succeed() -> None:
    table = candidate(fence=True)
    table.answer(Probe, Holder.NOBODY, "")
    assert (table.count(Fence), table.count(Take)) == (1, 0)
    table.answer(Fence, "it ended with 1")
    assert table.alarms["fence"] == "the fence command failed: it ended with 1"
    table.wait(4.9)
    assert table.count(Probe) == 1
    table.wait(0.2)
    table.answer(Probe, Holder.NOBODY, "")
    assert (table.count(Fence), table.count(Take)) == (2, 0)
    table.answer(Fence, "")
    table.answer(Probe, Holder.NOBODY, "")
    assert (table.count(Fence), table.count(Take)) == (2, 1)
    assert "fence" not in table.alarms


def test_a_peer_that_speaks_is_not_fenced() -> None:
    table = Table(fence=True)
    table.wait(1, until=State.CANDIDATE, priority=50, **STANDBY)
    table.answer(Probe, Holder.NOBODY, "")
    assert (table.count(Fence), table.count(Take)) == (0, 1)


# --- letting go ----------------------------------------------------------------------


def test_a_stop_gives_the_addresses_to_the_peer() -> None:
    table = with_standby()
    refusal, actions = table.machine.command(Command.STOP, table.now)
    table.do(actions)
    assert (refusal, table.state) == ("", State.RELEASING)
    assert not table.machine.known.holding
    table.answer(Drop)
    assert table.state is State.MAINT
    assert [one.state for one in table.said(Kind.RELEASE)] == [State.MAINT] * 3


def test_who_lets_go_has_them_until_they_are_gone() -> None:
    table = with_standby()
    command(table, Command.SWITCH)
    table.wait(0.05)
    assert (table.said()[-1].state, Flag.HOLDS in table.said()[-1].flags) == (
        State.RELEASING,
        True,
    )


def test_a_kernel_that_does_not_answer_lets_the_lease_run_out() -> None:
    table = with_standby()
    command(table, Command.SWITCH)
    assert table.wait(10, until=State.BACKUP, **STANDBY) == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize(
    "told",
    [
        [{"kind": Kind.RELEASE, **STANDBY}],
        # All copies of the RELEASE are lost.
        [STANDBY],
        [{"state": State.RELEASING, "flags": HEALTHY | Flag.HOLDS}, STANDBY],
    ],
)
def test_what_the_peer_releases_is_taken_at_once(told: list[dict[str, Any]]) -> None:
    table = standing_by()
    for one in told:
        assert table.state is State.BACKUP
        table.hear(**one)
    assert (table.state, table.why) == (State.CANDIDATE, "b released the addresses")
    assert (table.count(Probe), table.count(Take)) == (0, 1)


def test_a_release_that_was_read_late_is_probed() -> None:
    table = standing_by()
    sent_at = table.now
    table.stand_still(4)
    table.hear(kind=Kind.RELEASE, clock=int(sent_at * 1e6), echo_seq=1, **STANDBY)
    assert (table.state, table.count(Probe), table.count(Take)) == (State.CANDIDATE, 1, 0)


def test_a_release_counts_once() -> None:
    """Its copies come when the addresses were taken and given back."""
    table = standing_by()
    table.hear(kind=Kind.RELEASE, **STANDBY)
    table.answer(Take)
    command(table, Command.SWITCH)
    released(table)
    table.hear(kind=Kind.RELEASE, **STANDBY)
    table.hear(kind=Kind.RELEASE, **STANDBY)
    assert table.state is State.BACKUP


def test_who_has_released_lets_the_peer_go_first() -> None:
    table = with_standby()
    command(table, Command.SWITCH)
    released(table)
    took = table.wait(10, until=State.CANDIDATE, **STANDBY)
    assert took == pytest.approx(2 + 0.4 + 0.2 * 155 / 255, abs=0.1)


def test_who_has_released_to_nobody_goes_again_at_once() -> None:
    table = with_standby()
    command(table, Command.SWITCH)
    released(table)
    took = table.wait(10, until=State.CANDIDATE, state=State.BACKUP, flags=Flag.CARRIER_OK)
    assert took == pytest.approx(0.4 + 0.2 * 155 / 255, abs=0.01)


def test_no_carrier_is_a_fault_also_without_a_peer() -> None:
    table = active()
    table.learn(carrier_lost="eth0 has no carrier")
    released(table)
    assert (table.state, table.why) == (State.FAULT, "eth0 has no carrier")
    assert len(table.said(Kind.RELEASE)) == 3
    table.learn(carrier_lost="")
    assert table.state is State.CANDIDATE


@pytest.mark.parametrize(
    ("facts", "after", "why"),
    [
        ({"health": SICK}, 0.1, "no worker is alive"),
        ({"health": POOR}, 10, "pool farm has no server, and b is better off"),
        ({"gateway_answers": False}, 3.2, "no gateway answers here, and b reaches one"),
    ],
)
def test_what_the_peer_can_do_better(facts: dict[str, Any], after: float, why: str) -> None:
    table = with_standby(gateways=False)
    table.learn(**facts)
    table.wait(after, until=State.RELEASING, **STANDBY)
    assert (table.state, table.why) == (State.RELEASING, why)


def test_a_gateway_that_is_not_configured_any_more_moves_nothing() -> None:
    """It was lost, and nobody asks for it from here on."""
    table = with_standby(gateways=True)
    table.learn(gateway_answers=False)
    table.do(table.machine.configure(settings(gateways=False), table.now))
    table.wait(30, **STANDBY)
    assert table.state is State.ACTIVE


@pytest.mark.parametrize("facts", [{"health": SICK}, {"health": POOR}, {"gateway_answers": False}])
@pytest.mark.parametrize(
    "told",
    [
        None,
        {"state": State.MAINT},
        {"state": State.FAULT},
        {"state": State.BACKUP, "flags": HEALTHY & ~Flag.DATAPLANE_OK},
        {"state": State.BACKUP, "flags": HEALTHY & ~Flag.CARRIER_OK},
        {"state": State.BACKUP, "echo_seq": 1},
    ],
)
def test_without_an_able_peer_they_stay(facts: dict[str, Any], told: dict[str, Any] | None) -> None:
    table = active()
    table.learn(**facts)
    table.wait(30, **(told or {}))
    assert table.state is State.ACTIVE


def test_a_penalty_that_both_have_moves_nothing() -> None:
    table = with_standby()
    table.learn(health=POOR)
    table.wait(60, priority=50, configured=100, **STANDBY)
    assert table.state is State.ACTIVE


@pytest.mark.parametrize(("mine", "theirs"), [(30, 30), (100, 30), (30, 100), (1, 254), (51, 20)])
def test_a_small_priority_less_a_penalty_is_no_worse(mine: int, theirs: int) -> None:
    table = with_standby(priority=mine)
    table.learn(health=POOR)
    table.wait(60, priority=max(1, theirs - 50), configured=theirs, **STANDBY)
    assert table.state is State.ACTIVE


@pytest.mark.parametrize(("mine", "theirs"), [(30, 30), (100, 30), (30, 100)])
def test_a_small_priority_that_is_whole_is_better_off(mine: int, theirs: int) -> None:
    table = with_standby(priority=mine)
    table.learn(health=POOR)
    table.wait(60, until=State.RELEASING, priority=theirs, configured=theirs, **STANDBY)


def test_who_is_better_off_but_sees_no_gateway_is_not_better() -> None:
    table = with_standby(gateways=True)
    table.learn(health=POOR, gateway_answers=True)
    table.wait(60, flags=HEALTHY & ~Flag.GATEWAY_OK, **STANDBY)
    assert table.state is State.ACTIVE


def test_fault_hold_is_kept_for_small_reasons() -> None:
    table = active()
    table.learn(health=POOR)
    assert table.wait(60, until=State.RELEASING, **STANDBY) == pytest.approx(10, abs=0.3)
