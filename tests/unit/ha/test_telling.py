"""Sentences for operators in states that last too short, or are too rare, for the scenarios."""

from dataclasses import replace

import pytest

from mailweir.ha.machine.facts import BalancerHealth
from mailweir.ha.machine.known import Known
from mailweir.ha.machine.operator_words import Said, Words
from mailweir.ha.machine.wire import Flag, Kind, Message, State
from mailweir.ha.telling import explain, status
from mailweir.ha.text import explanation
from mailweir.ha.text import status as lines
from unit.ha.pairs import SETTINGS

_SETTINGS = replace(SETTINGS, gateways=True, witness=True, links=("lan",))
_SILENT = ": it is down, `mailweir ha run` doesn't run there, or no link works"


def _known(state: State, why: str) -> Known:
    """Node a for 90 s in this state; it has heard nothing."""
    known = Known(_SETTINGS, epoch=1, now=0.0)
    known.health = BalancerHealth(ok=True, why="")
    known.carrier_lost = ""
    known.state, known.since, known.why = state, 10.0, why
    return known


def _hears(known: Known, state: State, flags: Flag = Flag.DATAPLANE_OK | Flag.CARRIER_OK) -> None:
    """A hello of b, just now."""
    told: Message = Known(replace(_SETTINGS, number=2), epoch=2, now=0.0).message(Kind.HELLO, 100.0)
    known.peer.message = replace(told, state=state, flags=flags | Flag.GATEWAY_OK)
    known.peer.heard_at = known.peer.echoed_at = 100.0
    known.peer.epoch = 2


def _said(known: Known) -> str:
    return explanation(explain(known, 100.0))


def test_at_the_start() -> None:
    known = Known(_SETTINGS, epoch=1, now=0.0)
    assert _said(known) == (
        "a listens for b before it decides: it has just started. Nothing has been heard of b yet."
    )


def test_after_it_stood_still() -> None:
    known = _known(State.INIT, "it stood still for 3.2 s, and the lease may be over")
    _hears(known, State.ACTIVE)
    assert _said(known) == (
        "a listens for b before it decides: it stood still for 3.2 s, and the lease may be over."
        " b is active."
    )


@pytest.mark.parametrize(
    ("alarms", "told"),
    [
        ({}, "a is about to take over because b was silent on all links."),
        (
            {"quorum": "neither the peer nor the witness gives leave to be active"},
            "a would take over because b was silent on all links, but neither the peer nor the"
            " witness gives leave to be active.",
        ),
        (
            {"fence": "the fence command failed: /bin/false ended with 1"},
            "a would take over because b was silent on all links, but the fence command failed:"
            " /bin/false ended with 1.",
        ),
    ],
)
def test_candidate(alarms: dict[str, str], told: str) -> None:
    known = _known(State.CANDIDATE, "b was silent on all links")
    known.alarms = alarms
    first, *rest = _said(known).split("\n")
    assert first == f"{told} Nothing has been heard of b yet{_SILENT}."
    assert rest == [f"ALARM: {alarm}" for alarm in alarms.values()]


def test_active_and_not_well() -> None:
    known = _known(State.ACTIVE, "b released the addresses")
    known.health = BalancerHealth(ok=True, why="no server of farm is up", penalty=50)
    known.gateway_answers = True
    _hears(known, State.BACKUP)
    assert _said(known) == (
        "a has been active for 1m 30s; it took over because b released the addresses."
        " Its balancer isn't well: no server of farm is up. b could take over."
    )


def test_both_active() -> None:
    known = _known(State.ACTIVE, "b was silent on all links")
    _hears(known, State.ACTIVE)
    assert _said(known) == (
        "a has been active for 1m 30s; it took over because b was silent on all links."
        " b says that it is active as well; one of them lets go in a moment."
    )


def test_letting_go() -> None:
    known = _known(State.RELEASING, "eth0 has no carrier")
    _hears(known, State.BACKUP)
    assert _said(known) == "a gives the addresses up: eth0 has no carrier. b stands by."


@pytest.mark.parametrize("state", [State.MAINT, State.FAULT])
def test_when_nobody_may_be_active(state: State) -> None:
    known = _known(state, "an operator wants it so")
    assert _said(known).endswith(f"{_SILENT}. Unless it is active, nobody is.")


def test_cut_off() -> None:
    known = _known(State.BACKUP, "b is active")
    known.double = "another machine has this node's own address: 192.0.2.1 is at MAC on eth0"
    _hears(known, State.CANDIDATE)
    assert _said(known) == (
        "a has stood by for 1m 30s and can't take over: another machine has this node's own"
        " address: 192.0.2.1 is at MAC on eth0. b is about to take over."
    )


def test_words_of_one_node_alone() -> None:
    """Each with what repeats it; not all of hundreds."""
    known = _known(State.BACKUP, "b is active")
    _hears(known, State.ACTIVE)
    peer = Words()
    peer.learn([Said(f"drain farm/{number}") for number in range(20)])
    known.words.learn([Said("weight farm/0 50%", until=220.0)])
    for page in peer.due(100.0):
        known.words.hear(page, 100.0)
    told = status(known, 100.0)
    assert told["words"][0] == {
        "only": "b",
        "what": "drain farm/0",
        "command": "mailweir drain farm/0",
    }
    assert told["words"][-1] == {
        "only": "a",
        "what": "weight farm/0 50%",
        "command": "mailweir weight farm/0 50% --for 2m",
    }
    parts = lines(told).split("\n\n")
    assert parts[-2].splitlines()[:2] == [
        "ONLY  TO REPEAT IT AT THE OTHER NODE",
        "b     mailweir drain farm/0",
    ]
    assert parts[-1] == "1 more, which --json shows\n"


def test_status_begins_with_the_same_sentence() -> None:
    known = _known(State.MAINT, "an operator wants it so")
    assert status(known, 100.0)["sentence"] == explain(known, 100.0)["sentence"]
