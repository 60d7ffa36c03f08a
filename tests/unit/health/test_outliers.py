"""What becomes of servers that spoil sessions: who is out, for how long, and who never is."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scale import count
from mailweir.config.pool import Outlier
from mailweir.config.units import parse_share
from mailweir.health.outliers import (
    APART,
    LONGEST,
    TOLD_AFTER,
    Change,
    PoolSeen,
    ServerSeen,
    most_out,
)
from mailweir.health.suspicion import Counted
from mailweir.spec import ServerKey
from unit.health.farms import POOL, Farm, ejections

_A = ServerKey(POOL, "a")
_BASE = Outlier().base
_HOUR = 3600

Told = Callable[[str], None]


def farm(*shares: float, seed: int = 1) -> Farm:
    return Farm(list(shares), Random(seed))  # noqa: S311 - keeps no secret


def pool(servers: int, *, down: int = 0, share: str = "50%", panic: str = "50%") -> PoolSeen:
    members = [
        ServerSeen(str(number), "10.0.0.1:25", number >= down, Counted(0, 0, 0, 0, 0))
        for number in range(servers)
    ]
    found = Outlier.model_validate({"max_ejected": share})
    return PoolSeen(POOL, found, parse_share(panic), servers, members, 0, {})


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (pool(1), 0),
        (pool(2), 1),
        (pool(3), 1),
        (pool(4), 2),
        (pool(5), 2),
        # One may always be, but the last.
        (pool(4, share="1%"), 1),
        (pool(2, share="1%"), 1),
        (pool(10, share="30%"), 3),
        (pool(4, share="100%", panic="0%"), 3),
        # None by which fewer than half would be up.
        (pool(4, share="100%"), 2),
        (pool(3, down=1), 0),
        (pool(4, down=1), 1),
        (pool(4, down=2), 0),
        (pool(4, down=3), 0),
        (pool(4, down=3, panic="0%"), 0),
        (pool(4, down=4), 0),
        (pool(3, panic="67%"), 0),
    ],
)
def test_how_many_may_be_out(seen: PoolSeen, expected: int) -> None:
    assert most_out(seen) == expected


@pytest.mark.parametrize("seed", range(count(5, 50)))
@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
def test_one_of_four_is_ejected_within_ten_seconds(seed: int, share: float) -> None:
    found = farm(0.0, share, 0.0, 0.0, seed=seed)
    changes = [change for _ in range(10) for change in found.second(200)]
    assert ejections(changes) == ["b"]
    assert found.out() == {"b"}


def test_equal_servers_stay(counted: Told) -> None:
    """Whatever they fail, and however long: comparing is what saves them."""
    seconds, found = count(600, 12 * _HOUR), 0
    shares = (0.01, 0.05, 0.1, 0.2)
    for share in shares:
        for servers, sessions in ((2, 5), (4, 20)):
            one = farm(*[share] * servers, seed=int(1000 * share) + servers)
            for _ in range(seconds):
                found += len(ejections(one.second(sessions)))
    counted(f"{seconds} s each of pools whose servers fail {shares}: {found} ejections")
    assert found <= seconds // (6 * _HOUR)


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_where_all_are_bad_all_are_used(share: float) -> None:
    found = farm(*[share] * 4)
    changes = [change for _ in range(60) for change in found.second(50)]
    assert changes == []
    assert found.outliers.failing() == {POOL: ("a", "b", "c", "d")}


def test_those_that_fail_are_told_of_after_a_while() -> None:
    found = farm(0.5, 0.5)
    while not found.outliers.failing().get(POOL):
        found.second(50)
    assert found.now == pytest.approx(TOLD_AFTER, abs=2)
    found.shares = [0.0, 0.0]
    for _ in range(90):
        found.second(50)
    assert found.outliers.failing() == {POOL: ()}


def test_no_more_than_may_be_are_ejected() -> None:
    found = farm(1.0, 1.0, 1.0, 0.0)
    for _ in range(60):
        found.second(50)
    assert len(found.out()) == 2
    assert "d" not in found.out()
    assert len(found.outliers.failing()[POOL]) == 1


def test_it_is_out_longer_each_time_and_as_short_as_before_once_it_was_well() -> None:
    found = farm(0.0, 0.0, 0.0, 0.0)
    found.look()
    lasted = []
    for _ in range(LONGEST + 2):
        found.ejected("a")
        ejection = found.outliers.told(_A)
        assert ejection
        lasted.append(ejection.until - ejection.began)
        found.now = max(ejection.until, ejection.began + APART)
        assert found.check()
        found.look()
    expected = [min(number, LONGEST) * _BASE for number in range(1, LONGEST + 3)]
    assert lasted == expected
    # One is forgotten for each ten times `base` that it does well.
    for periods, times in ((3, LONGEST - 2), (0, LONGEST - 1), (50, 1)):
        found.now += periods * LONGEST * _BASE
        found.look()
        found.ejected("a")
        ejection = found.outliers.told(_A)
        assert ejection
        assert ejection.times == times
        found.now = max(ejection.until, ejection.began + APART)
        assert found.check()
        found.look()


def test_it_comes_back_by_a_check_that_began_when_its_time_was_over() -> None:
    found = farm(0.0, 0.0, 0.0)
    found.look()
    found.ejected("a")
    over = found.now + _BASE
    assert found.outliers.due(over - 0.1) == []
    assert found.outliers.checked(_A, over - 0.1, over, passed=True) is None
    assert found.outliers.due(over) == [_A]
    change = found.outliers.checked(_A, over, over + 0.1, passed=True)
    assert change
    assert (change.key, change.ended) == (_A, "its time is over, and it passed a check")
    assert found.outliers.checked(_A, over, over + 0.2, passed=True) is None, "it is in use"
    assert found.outliers.told(_A) is None


def test_an_operator_ends_it_and_what_was_before_is_forgotten() -> None:
    found = farm(0.0, 0.0, 0.0)
    found.look()
    found.ejected("a")
    found.outliers.pardon(_A, found.now)
    assert found.out() == set()
    # Not at once again: that would be a flap.
    found.now += APART - 1
    with pytest.raises(ValueError, match="not enough values"):
        found.ejected("a")
    found.now += 1
    assert ejections(found.look()) == ["a"]
    ejection = found.outliers.told(_A)
    assert ejection
    assert ejection.times == 1
    found.outliers.pardon(ServerKey("nowhere", "a"), found.now)


def test_others_that_go_down_end_it() -> None:
    found = farm(0.0, 0.0, 0.0, 0.0)
    found.look()
    found.ejected("a")
    found.now += 1
    found.ejected("b")
    found.down = {"c"}
    (change,) = found.look()
    assert (change.key.server, change.ended) == ("a", "too few others are up")
    assert found.out() == {"b"}
    found.down = {"c", "d"}
    (change,) = found.look()
    assert change.key.server == "b"


def test_what_checks_see_as_well_is_theirs() -> None:
    """A server that was dead for a moment is used as soon as its checks pass."""
    found = farm(0.0, 0.0, 0.0, 0.0)
    found.look()
    found.ejected("a")
    change = found.outliers.called_down(_A, found.now)
    assert change is not None
    assert (change.key.server, change.ended) == ("a", "its checks call it down")
    assert found.look() == []
    assert found.out() == set()


@pytest.mark.parametrize("before", ["the first look", "a later one"])
def test_what_checks_saw_for_less_than_a_second_is_no_evidence(before: str) -> None:
    """It has failed in a row, was called down, and is up again when we look."""
    found = farm(0.0, 0.0, 0.0, 0.0)
    if before == "a later one":
        found.look()
    found.fails("a", 39)
    found.outliers.called_down(_A, found.now)
    assert found.look() == []
    found.now += 1
    found.fails("a", 39)
    assert [change.key.server for change in found.look()] == ["a"]


def test_that_it_was_down_long_ago_is_no_excuse() -> None:
    """Nobody had looked since."""
    found = farm(0.0, 0.0, 0.0, 0.0)
    found.look()
    found.outliers.called_down(_A, found.now)
    found.now += 600
    found.fails("a", 39)
    assert [change.key.server for change in found.look()] == ["a"]


def test_what_is_kept_by_a_reload_and_what_is_not() -> None:
    found = farm(0.0, 0.0, 0.0, 0.0)
    found.look()
    found.ejected("a")
    found.settings = Outlier(consecutive=9)
    assert found.look() == []
    assert found.out() == {"a"}
    # At another address it is another machine.
    seen = found.seen()
    moved = ServerSeen("a", "10.0.0.9:25", in_use=True, counted=seen.members[0].counted)
    other = replace(seen, members=[moved, *seen.members[1:]])
    (change,) = found.outliers.step(other, found.now)
    assert (change.key.server, change.ended) == ("a", "its address changed")
    assert found.out() == set()


def test_what_a_machine_did_is_not_held_against_the_next_at_its_name() -> None:
    found = farm(1.0, 0.0, 0.0, 0.0)
    found.settings = Outlier(consecutive=500)
    found.second(60)
    found.settings = Outlier()
    seen = found.seen()
    moved = ServerSeen("a", "10.0.0.9:25", in_use=True, counted=seen.members[0].counted)
    other = replace(seen, members=[moved, *seen.members[1:]])
    assert found.outliers.step(other, found.now + 1) == []
    assert found.outliers.step(other, found.now + 2) == []


def test_without_settings_nobody_is_out() -> None:
    found = farm(0.0, 0.0, 0.0, 0.0)
    found.look()
    found.ejected("a")
    found.settings = None
    (change,) = found.look()
    assert change.ended == "`outlier: none`"
    found.shares = [1.0, 0.0, 0.0, 0.0]
    assert [change for _ in range(5) for change in found.second(100)] == []
    # What happened meanwhile is no evidence.
    found.settings = Outlier()
    found.shares = [0.0] * 4
    assert [change for _ in range(5) for change in found.second(100)] == []


def test_a_pool_in_which_nothing_happens_is_not_looked_at() -> None:
    found = farm(0.0, 0.0, 0.0, 0.0)
    found.second(50)
    assert found.outliers.rests(POOL, 0)
    assert not found.outliers.rests(POOL, 1)
    for _ in range(1000):
        found.come(50)
        found.now += 1
    found.second(50)
    # What comes then is seen at once, whatever was good before.
    found.shares = [0.3, 0.0, 0.0, 0.0]
    changes = [change for _ in range(4) for change in found.second(200)]
    assert ejections(changes) == ["a"]
    found.shares = [0.0] * 4
    found.now += 31
    assert found.check()
    for _ in range(70):
        found.second(50)
    assert found.outliers.rests(POOL, found.seen().bad)


def test_a_row_of_sessions_that_come_seldom() -> None:
    """One an hour at each server."""
    found, changes = farm(0.0, 0.0, 0.0, 0.0), list[Change]()
    found.second(0)
    for _ in range(5):
        assert changes == []
        found.spoil("a")
        for _ in range(3600):
            found.now += 1
            if not found.outliers.rests(POOL, found.seen().bad):
                changes += found.look()
    assert ejections(changes) == ["a"]


_STEPS = st.lists(
    st.tuples(
        st.lists(st.sampled_from([0.0, 0.0, 0.1, 0.5, 1.0]), min_size=4, max_size=4),
        st.sets(st.sampled_from("abcd"), max_size=3),
        st.integers(1, 40),  # seconds
        st.booleans(),  # whether checks pass
        st.sampled_from(["", "", "a", "b"]),  # who is pardoned
    ),
    max_size=12,
)


@given(_STEPS, st.integers(0, 1000))
@settings(max_examples=count(25, 2000), deadline=None)
def test_whatever_happens(
    steps: list[tuple[list[float], set[str], int, bool, str]], seed: int
) -> None:
    found = farm(0.0, 0.0, 0.0, 0.0, seed=seed)
    last: dict[str, float] = {}
    for shares, down, seconds, passes, pardoned in steps:
        found.shares, found.down = shares, down
        if pardoned:
            found.outliers.pardon(ServerKey(POOL, pardoned), found.now)
        for _ in range(seconds):
            for name in ejections(found.second(30)):
                # Once a minute at most, and never one that isn't in use.
                assert found.now - last.get(name, -APART) >= APART
                assert name not in down
                last[name] = found.now
            there = set("abcd") - down
            assert len(found.out() & there) <= max(0, min(len(there) // 2, len(there) - 2))
            assert not there or there - found.out()
            if passes:
                found.check()
