"""Operators' words of both nodes: what is told, what is made of it, and whom it may not fool."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailweir.ha.machine.facts import BalancerHealth, Drop, Holder, Probe, Say, Take
from mailweir.ha.machine.operator_words import Said, Words
from mailweir.ha.machine.wire import MOST_WORDS, Kind, Refusal, State
from unit.ha.pairs import ACTIVE, OK, STANDBY, Table, active, standing_by

DRAIN, DENY = Said("drain farm/x"), Said("deny 192.0.2.0/24")
PAGES = 8


def told(*words: Said, at: float = 0.0) -> list[bytes]:
    """All pages of a node that has these."""
    node = Words()
    node.learn(words)
    return node.due(at)


def knows(*own: Said, of_peer: list[bytes], at: float = 0.0) -> Words:
    node = Words()
    node.learn(own)
    for page in of_peer:
        node.hear(page, at)
    return node


_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
_whats = st.one_of(
    st.builds("{} {}/{}".format, st.sampled_from(["drain", "maint"]), _names, _names),
    st.builds("weight {}/{} {}%".format, _names, _names, st.integers(0, 1000)),
    st.builds("pause {}".format, _names),
    st.just("pause"),
    st.builds("deny {}".format, st.ip_addresses()),
)
_words = st.lists(
    st.builds(Said, _whats, st.none() | st.floats(1.0, 1e12)), unique_by=lambda one: one.what
)


@given(_words, _words)
def test_what_only_one_node_has(mine: list[Said], theirs: list[Said]) -> None:
    node = knows(*mine, of_peer=told(*theirs))
    names, others = {one.what for one in mine}, {one.what for one in theirs}
    assert [one.what for one in node.missing(0.0)] == [
        one.what for one in theirs if one.what not in names
    ]
    assert [one.what for one in node.unshared(0.0)] == [
        one.what for one in mine if one.what not in others
    ]


@given(_words, st.randoms(use_true_random=False))
def test_pages_come_in_any_order_and_more_than_once(words: list[Said], random: Any) -> None:
    pages = [*told(*words), *told(*words, at=0.5)]
    random.shuffle(pages)
    node = knows(of_peer=pages)
    assert [one.what for one in node.missing(0.0)] == [one.what for one in words]


@given(st.binary(max_size=MOST_WORDS))
def test_rubbish_says_nothing(rubbish: bytes) -> None:
    node = knows(DRAIN, of_peer=[rubbish])
    assert node.missing(0.0) == []


def test_a_word_of_a_later_version_is_none_and_the_others_count() -> None:
    later = told(DRAIN, DENY)[0].replace(b"drain", b"shave")
    node = knows(Said("pause"), of_peer=[later])
    assert node.missing(0.0) == [DENY]
    assert node.unshared(0.0) == [], "the peer has a word that isn't known"


@pytest.mark.parametrize(
    "what",
    ["drain a/b; reboot", "drain $(reboot)", "drain a/b\nmaint a/b", "rm -rf", "", "deny `x`"],
)
def test_nothing_else_is_a_word(what: str) -> None:
    with pytest.raises(ValueError, match="is no operator's word"):
        Said(what)
    line = told(DRAIN)[0].replace(b"drain farm/x", what.encode())
    assert {one.what for one in knows(of_peer=[line]).missing(0.0)} <= {"maint a/b", "drain a/b"}


def test_more_words_than_are_told() -> None:
    many = [Said(f"deny 2001:db8:{number:x}::/48") for number in range(10_000)]
    pages = told(*many)
    assert len(pages) == PAGES
    assert max(map(len, pages)) <= MOST_WORDS
    node = knows(DRAIN, of_peer=pages)
    found = len(node.missing(0.0))
    assert 200 < found < 10_000
    assert node.unshared(0.0) == [], "it may be among those that weren't told"
    assert f"and {10_000 - 10} more" in node.lost("a", "b", 0.0)


def test_what_is_new_is_told_at_once_and_the_rest_in_turn() -> None:
    node = Words()
    assert node.due(0.0) == [], "nothing is known yet"
    many = [Said(f"drain farm/{number}") for number in range(100)]
    node.learn(many)
    every = node.due(0.0)
    assert len(every) == 3
    assert node.due(0.9) == []
    assert [node.due(at) for at in (1.0, 2.0, 3.0)] == [[every[1]], [every[2]], [every[0]]]
    node.learn(list(many))
    assert node.due(3.1) == [], "nothing is new"
    node.learn([])
    assert len(node.due(3.1)) == 1, "that there are none is told too"


def test_how_long_a_word_counts() -> None:
    pages = told(dataclasses.replace(DRAIN, until=1000.0), at=900.0)
    node = knows(of_peer=pages, at=5000.0)
    assert [one.until for one in node.missing(5000.0)] == [5100.0]
    assert node.missing(5100.0) == []


@pytest.mark.parametrize(
    ("until", "command"),
    [
        (None, "mailweir drain farm/x"),
        (100.5, "mailweir drain farm/x --for 1s"),
        (220.0, "mailweir drain farm/x --for 2m"),
        (221.0, "mailweir drain farm/x --for 3m"),
        (7300.0, "mailweir drain farm/x --for 2h"),
    ],
)
def test_what_repeats_it(until: float | None, command: str) -> None:
    assert dataclasses.replace(DRAIN, until=until).command(100.0) == command


def test_words_of_a_peer_that_tells_them_no_more() -> None:
    """It runs an earlier version by now, say."""
    node = knows(DRAIN, of_peer=told(DENY))
    node.watch(30.0, 30.0)
    assert node.missing(30.0) == [DENY]
    node.watch(30.5, 30.5)
    assert (node.missing(30.5), node.unshared(30.5)) == ([], [])


# --- in the machine ----------------------------------------------------------------------


def with_words(*words: Said) -> BalancerHealth:
    return dataclasses.replace(OK, words=words)


def tells(table: Table, *words: Said, **changed: Any) -> None:
    for page in told(*words):
        assert table.hear(kind=Kind.WORDS, words=page, **changed) is None


def warnings(table: Table) -> list[Say]:
    return [one for one in table.actions if isinstance(one, Say) and one.level == "warning"]


def test_they_are_told_to_the_peer_within_an_interval() -> None:
    table = standing_by()
    table.learn(health=with_words(DRAIN))
    table.wait(0.2, **ACTIVE)
    [message] = table.said(Kind.WORDS)
    assert knows(of_peer=[message.words]).missing(0.0) == [DRAIN]
    assert not table.said(Kind.WORDS, to_witness=True)


def test_the_alarm_waits_for_who_says_it_on_both() -> None:
    table = standing_by()
    table.learn(health=with_words(DENY))
    tells(table, DRAIN, **ACTIVE)
    table.wait(9.9, **ACTIVE)
    assert "words" not in table.alarms
    table.wait(0.3, **ACTIVE)
    assert table.alarms["words"] == (
        "operators' words differ: only b has `drain farm/x`; only a has `deny 192.0.2.0/24`"
    )
    table.learn(health=with_words(DENY, DRAIN))
    assert table.alarms["words"] == "operators' words differ: only a has `deny 192.0.2.0/24`"
    tells(table, DRAIN, DENY, **ACTIVE)
    assert "words" not in table.alarms


def test_a_takeover_says_what_is_lost() -> None:
    table = standing_by()
    table.learn(health=with_words())
    tells(table, DRAIN, dataclasses.replace(DENY, until=3600.0), **ACTIVE)
    table.wait(10, until=State.CANDIDATE)
    table.answer(Probe, Holder.NOBODY, "")
    table.answer(Take)
    assert table.state is State.ACTIVE
    [lost] = [one for one in warnings(table) if one.event == "operators' words are missing"]
    assert lost.reason == (
        "they were said on b and not on a; to repeat them here: mailweir drain farm/x;"
        " mailweir deny 192.0.2.0/24 --for 1h"
    )
    # Nobody is there to take it back, but here it can be repeated.
    table.wait(60)
    assert table.alarms["words"].endswith("only b has `drain farm/x` and `deny 192.0.2.0/24`")
    table.learn(health=with_words(DRAIN, DENY))
    assert "words" not in table.alarms


def test_a_takeover_that_loses_nothing_says_nothing() -> None:
    table = active()
    table.learn(health=with_words(DRAIN))
    tells(table, DRAIN, **STANDBY)
    table.forget()
    table.do(table.machine.failed("the device is gone", table.now))
    table.answer(Drop)
    table.wait(30, until=State.ACTIVE)
    assert not [one for one in warnings(table) if "words" in one.event]


def test_words_of_an_earlier_life_or_said_before_are_none() -> None:
    table = standing_by()
    table.learn(health=with_words())
    [before], [after] = told(DRAIN), told()
    tells(table, DRAIN, **ACTIVE)
    old = table.seqs[2]
    assert table.hear(kind=Kind.WORDS, words=after, **ACTIVE) is None
    again = table.hear(kind=Kind.WORDS, words=before, seq=old, **ACTIVE)
    assert again is Refusal.REPLAYED
    stale = table.hear(kind=Kind.WORDS, words=before, epoch=0xDEAD, seq=10**6, echo_seq=1, **ACTIVE)
    assert stale is Refusal.UNPROVEN
    assert table.machine.known.words.missing(table.now) == []
