"""Who spoils more sessions than the others of a pool: the bounds, and their figures."""

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailweir.health.suspicion import (
    ALPHA,
    MARGIN,
    Counted,
    EjectionCause,
    History,
    Suspicion,
    Tally,
    chance,
    fails,
    row_needed,
    worst,
)


def tally(sessions: int, spoiled: int, in_vain: int = 0) -> Tally:
    return Tally(sessions, spoiled, in_vain)


def history(*moments: dict[str, Counted], apart: float = 1.0) -> History:
    """What was counted at these moments, from 0 s on; all servers are in use."""
    found = History()
    for number, counted in enumerate(moments):
        found.note(counted, list(counted), number * apart)
    return found


def counted(
    taken: int = 0, refused: int = 0, cut: int = 0, in_vain: int = 0, in_a_row: int = 0
) -> Counted:
    return Counted(taken, refused, cut, in_vain, in_a_row)


NOTHING = counted()


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_the_probability_is_fishers(own: int, mine: int, other: int, theirs: int) -> None:
    own_tally, others = tally(own, min(own, mine)), tally(other, min(other, theirs))
    spoiled = own_tally.spoiled + others.spoiled
    ways = sum(
        comb(own, number) * comb(other, spoiled - number)
        for number in range(own_tally.spoiled, min(own, spoiled) + 1)
    )
    exact = Fraction(ways, comb(own + other, spoiled))
    found = chance(own_tally, others)
    # It stops early where the server is worse, as it is when it is asked.
    if own_tally.share > others.share:
        assert found == pytest.approx(float(exact), rel=1e-6)


def test_one_of_four_that_spoils_a_tenth() -> None:
    """Ten sessions, where the others spoil none."""
    assert chance(tally(90, 9), tally(270, 0)) > ALPHA
    assert chance(tally(100, 10), tally(300, 0)) < ALPHA
    # Tens of thousands are no trouble.
    assert 0 < chance(tally(50_000, 5_100), tally(150_000, 15_000)) < 1


def test_how_many_in_a_row() -> None:
    assert row_needed(5, tally(100, 0)) == 5
    assert row_needed(5, tally(1000, 49)) == 5
    # Of ten sessions that nobody spoiled as much is known; of two too little.
    assert row_needed(5, tally(10, 0)) == 5
    assert row_needed(5, tally(2, 0)) > 5
    # Where the others spoil half of them, five in a row are nothing.
    assert row_needed(5, tally(1000, 500)) == 22
    assert row_needed(2, tally(1000, 500)) == 9
    # What nobody took is spoiled as well.
    assert row_needed(5, tally(500, 0, in_vain=500)) == 22
    assert row_needed(5, tally(0, 0)) > 5


@given(st.integers(2, 50), st.integers(0, 1000), st.integers(0, 1000))
def test_a_row_is_as_unlikely_as_one_beside_good_servers(
    consecutive: int, sessions: int, spoiled: int
) -> None:
    others = tally(sessions, min(sessions, spoiled))
    needed = row_needed(consecutive, others)
    assert needed >= consecutive
    share = (others.spoiled + 0.5) / (others.sessions + 1)
    # Logarithms round.
    assert max(share, MARGIN) ** needed <= MARGIN**consecutive * (1 + 1e-9)


def test_the_row_of_one_that_takes_none() -> None:
    others = {name: counted(taken=20) for name in "bcd"}
    before = dict.fromkeys("abcd", NOTHING)
    four = history(before, {"a": counted(refused=4, in_a_row=4), **others})
    assert worst(four, "abcd", "abcd", 5, 1.0) is None
    five = history(before, {"a": counted(refused=5, in_a_row=5), **others})
    expected = Suspicion("a", EjectionCause.CONSECUTIVE, "5 sessions failed in a row", 1.0)
    assert worst(five, "abcd", "abcd", 5, 1.0) == expected
    # Nobody asks about it.
    assert worst(five, "bcd", "abcd", 5, 1.0) is None


def test_a_row_that_all_are_in() -> None:
    before = dict.fromkeys("abcd", NOTHING)
    now = dict.fromkeys("abcd", counted(taken=10, refused=20, in_a_row=6))
    assert worst(history(before, now), "abcd", "abcd", 5, 1.0) is None


def test_a_share_of_few_sessions_says_nothing() -> None:
    before = dict.fromkeys("abcd", NOTHING)
    good = {name: counted(taken=100) for name in "bcd"}
    few = {"a": counted(refused=19), **good}
    assert worst(history(before, few), "abcd", "abcd", 50, 1.0) is None
    some = {"a": counted(refused=20), **good}
    found = worst(history(before, some), "abcd", "abcd", 50, 1.0)
    assert found
    assert (found.name, found.cause) == ("a", EjectionCause.SHARE)
    assert found.reason == "20 of 20 sessions failed in 1 s, 0 of 300 at the others"


def test_a_little_more_than_the_others_is_borne() -> None:
    """However sure it is."""
    before = dict.fromkeys("ab", NOTHING)
    now = {"a": counted(taken=96_000, refused=4_000), "b": counted(taken=100_000)}
    assert worst(history(before, now), "ab", "ab", 5, 1.0) is None


def test_messages_that_are_cut_off_count() -> None:
    before = dict.fromkeys("abcd", NOTHING)
    now = {"a": counted(taken=100, cut=20), **{n: counted(taken=100) for n in "bcd"}}
    found = worst(history(before, now), "abcd", "abcd", 5, 1.0)
    assert found
    assert found.reason == "20 of 100 sessions failed in 1 s, 0 of 300 at the others"


def test_what_began_suddenly_is_seen_by_the_short_window() -> None:
    """A minute of good sessions doesn't hide it."""

    def at(second: int) -> dict[str, Counted]:
        bad = max(0, second - 60)
        a = counted(taken=20 * second - 3 * bad, refused=3 * bad)
        return {"a": a, **{name: counted(taken=20 * second) for name in "bcd"}}

    moments = [at(second) for second in range(66)]
    found = worst(history(*moments), "abcd", "abcd", 50, 65.0)
    assert found
    assert "of 200 sessions failed in 10 s" in found.reason


def test_few_sessions_are_seen_by_the_long_window() -> None:
    """Two a second, of which a quarter is spoiled."""

    def at(second: int) -> dict[str, Counted]:
        a = counted(taken=2 * second - second // 2, refused=second // 2)
        return {"a": a, **{name: counted(taken=2 * second) for name in "bcd"}}

    moments = [at(second) for second in range(61)]
    found = worst(history(*moments), "abcd", "abcd", 50, 60.0)
    assert found
    assert found.reason == "30 of 120 sessions failed in 60 s, 0 of 360 at the others"


def test_evidence_is_what_comes_while_a_server_is_in_use() -> None:
    found = History()
    before = dict.fromkeys("abcd", NOTHING)
    found.note(before, "abcd", 0.0)
    bad = {"a": counted(refused=30, in_a_row=30), **{n: counted(taken=100) for n in "bcd"}}
    found.note(bad, "bcd", 1.0)
    assert found.row("b") == 0
    # It is in use again, and its row is still there.
    found.note(bad, "abcd", 2.0)
    assert found.row("a") == 0
    assert worst(found, "abcd", "abcd", 5, 2.0) is None
    assert not fails(found, "a", 5, 2.0, before=False)
    one_more = bad | {"a": counted(refused=31, in_a_row=31)}
    found.note(one_more, "abcd", 3.0)
    assert found.row("a") == 1
    # Once that row has ended, the next one counts from its beginning.
    found.note(bad | {"a": counted(taken=1, refused=31)}, "abcd", 4.0)
    good = {name: counted(taken=200) for name in "bcd"}
    found.note({"a": counted(taken=1, refused=36, in_a_row=5), **good}, "abcd", 5.0)
    assert found.row("a") == 5
    assert worst(found, "abcd", "abcd", 5, 5.0)


def test_the_others_are_compared_since_a_server_is_in_use() -> None:
    """While it was out, what they failed was taken by nobody, and isn't counted as spoiled."""
    found = History()
    found.note(dict.fromkeys("ab", NOTHING), "ab", 0.0)
    found.note({"a": NOTHING, "b": counted(taken=50, in_vain=50)}, "b", 1.0)
    found.note({"a": NOTHING, "b": counted(taken=500, in_vain=500)}, "ab", 30.0)
    both = {"a": counted(taken=20, refused=20), "b": counted(taken=520, refused=20, in_vain=500)}
    found.note(both, "ab", 31.0)
    (window, *_) = found.windows("a", 31.0)
    assert found.tally("b", window) == tally(40, 20)


def test_a_server_fails_until_it_spoils_half_as_much() -> None:
    before = {"a": NOTHING}
    some = history(before, {"a": counted(taken=90, in_vain=10)})
    assert fails(some, "a", 5, 1.0, before=False)
    fewer = history(before, {"a": counted(taken=290, in_vain=10)})
    assert not fails(fewer, "a", 5, 1.0, before=False)
    assert fails(fewer, "a", 5, 1.0, before=True)
    assert not fails(
        history(before, {"a": counted(taken=990, in_vain=10)}), "a", 5, 1.0, before=True
    )
    assert fails(history(before, {"a": counted(refused=5, in_a_row=5)}), "a", 5, 1.0, before=False)


def test_a_server_that_went_and_came_has_begun_from_nothing() -> None:
    """Of its name other figures are known still: nothing is below zero, nobody fails for it."""
    found = History()
    for second, of_b in enumerate([counted(100, 40), None, counted(30, 1), counted(60, 2)]):
        figures = {"a": counted(100 * (second + 1), 40 * second)}
        figures |= {"b": of_b} if of_b else {}
        found.note(figures, list(figures), 10.0 * second)
    for window in found.windows("a", 30.0):
        own, rest = found.tally(["a"], window), found.tally(["b"], window)
        assert 0 <= min(rest) <= max(rest) <= 62
        assert 0 <= chance(own, rest) <= 1 + 1e-9
    worst(found, ["a", "b"], ["a", "b"], 5, 30.0)


@pytest.mark.parametrize("cut_since", [0, 60])
def test_a_server_whose_sessions_outlive_its_removal_goes_on_from_there(cut_since: int) -> None:
    """What is counted of it goes on as well: what it did before is no evidence."""
    found = History()
    moments = [counted(200), counted(500, 8, 50), None, counted(800, 8, 50 + cut_since)]
    for second, of_b in enumerate(moments):
        figures = {"a": counted(1000 * (second + 1))} | ({"b": of_b} if of_b else {})
        found.note(figures, list(figures), float(second))
    suspect = worst(found, ["a", "b"], ["a", "b"], 5, 3.0)
    if cut_since:
        assert suspect is not None
        assert suspect.reason.startswith("60 of 300 sessions failed")
    else:
        assert suspect is None
