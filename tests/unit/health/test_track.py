"""Rise and fall: the first result decides, afterwards only runs do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailweir.config.check_keys import Check
from mailweir.config.words import Initial
from mailweir.health.track import (
    FLAPS,
    REST,
    WINDOW,
    Track,
    held_until,
    interval,
    renewed,
    step,
    unseen,
    worst,
)
from mailweir.state.desired import Health

CHECK = Check(rise=2, fall=3)
UP, DRAIN, DOWN, UNKNOWN = Health.UP, Health.DRAIN, Health.DOWN, Health.UNKNOWN
VERDICTS = {"+": UP, "~": DRAIN, "-": DOWN}


def run(results: str, track: Track | None = None, check: Check = CHECK) -> Track:
    """An hour between two results: nothing flaps."""
    track = track or Track()
    for number, result in enumerate(results):
        track = step(track, VERDICTS[result], check, 3600.0 * number)
    return track


def pending(track: Track) -> bool:
    return interval(track, CHECK) == CHECK.fast


@pytest.mark.parametrize(
    ("results", "health", "is_pending"),
    [
        ("~", DRAIN, False),
        ("+~~", UP, True),
        ("+~~~", DRAIN, False),
        ("+-~~", DRAIN, False),
        ("+~~-", DOWN, False),
        ("~-", DRAIN, True),
        ("~---", DOWN, False),
        ("~++", UP, False),
        ("~-+", DRAIN, True),
        ("-~~", DRAIN, False),
        ("-+~", DRAIN, False),
        ("", UNKNOWN, False),
        ("+", UP, False),
        ("-", DOWN, False),
        ("+-", UP, True),
        ("+--", UP, True),
        ("+---", DOWN, False),
        ("+--+--", UP, True),
        ("-+", DOWN, True),
        ("-++", UP, False),
        ("-+-+", DOWN, True),
    ],
)
def test_transitions(results: str, health: Health, is_pending: bool) -> None:
    track = run(results)
    assert (track.health, pending(track)) == (health, is_pending)


def test_a_changed_address_keeps_health_until_the_next_result() -> None:
    track = renewed(run("+--"))
    assert (track.health, pending(track)) == (UP, False)
    assert run("-", track).health is DOWN
    assert run("+", track).health is UP


def test_fast_only_while_a_change_is_pending() -> None:
    assert interval(run("+"), CHECK) == CHECK.every
    assert interval(run("+-"), CHECK) == CHECK.fast
    assert interval(run("-"), CHECK) == CHECK.every
    assert interval(run("-+"), CHECK) == CHECK.fast


@given(
    st.lists(st.sampled_from("+~-"), min_size=1, max_size=40), st.integers(1, 5), st.integers(1, 5)
)
def test_a_change_has_a_run_behind_it(results: list[str], rise: int, fall: int) -> None:
    """Of results that are all better than what was known, or all worse; the last one says what."""
    check = Check(rise=rise, fall=fall)
    worth = {DOWN: 0, DRAIN: 1, UP: 2}
    verdicts = [VERDICTS[result] for result in results]
    track = step(Track(), verdicts[0], check, 0.0)
    for index, verdict in enumerate(verdicts[1:], start=1):
        after = step(track, verdict, check, 3600.0 * index)
        if after.health is not track.health:
            assert after.health is verdict
            rises = worth[verdict] > worth[track.health]
            needed = rise if rises else fall
            behind = verdicts[max(0, index - needed + 1) : index + 1]
            assert len(behind) == needed
            assert all((worth[one] > worth[track.health]) == rises for one in behind)
            assert track.health not in behind
        assert 0 <= after.streak < max(rise, fall)
        track = after


@given(st.lists(st.tuples(st.sampled_from("+~-"), st.floats(0.1, 30.0)), max_size=200))
def test_a_server_that_comes_and_goes_comes_back_once_a_minute(
    results: list[tuple[str, float]],
) -> None:
    check, track, now = Check(rise=1, fall=1), Track(), 0.0
    left: list[float] = []
    back: list[float] = []
    for result, later in results:
        now += later
        after = step(track, VERDICTS[result], check, now)
        if track.health is UP and after.health is not UP:
            left.append(now)
        elif track.health in (DRAIN, DOWN) and after.health is UP:
            back.append(now)
            if len(left) >= FLAPS and left[-1] - left[-FLAPS] <= WINDOW:
                assert now - left[-1] >= REST
        track = after
    # A minute with more than three is one before that was known.
    for index in range(FLAPS, len(back)):
        if back[index] - back[index - FLAPS] < WINDOW / 2:
            assert back[index] - back[index - 1] >= REST


def test_one_that_is_held_back_is_not_asked_more_often() -> None:
    check, now, track = Check(rise=2, fall=1), 0.0, Track()
    for result in "+-++-++-":
        now += 1.0
        track = step(track, VERDICTS[result], check, now)
    assert (track.health, held_until(track)) == (DOWN, now + REST)
    for _ in range(5):
        track = step(track, UP, check, now + 1)
    assert track.health is DOWN
    assert interval(track, check) == check.every
    assert step(track, UP, check, now + REST).health is UP
    # What it is sent to meanwhile, if it isn't down, is decided as ever.
    assert step(track, DRAIN, check, now + 2).health is DRAIN


def test_all_that_decide_say_together() -> None:
    assert worst(UP, []) is UP
    assert worst(UP, [UP, DRAIN]) is DRAIN
    assert worst(UP, [DRAIN, DOWN]) is DOWN
    assert worst(UP, [UNKNOWN]) is UP
    assert worst(UNKNOWN, [UP]) is UNKNOWN


def test_what_a_server_is_before_its_first_check() -> None:
    assert unseen(Check(), is_main=True).health is UNKNOWN
    for is_main in (True, False):
        seen = unseen(Check(initial=Initial.UP), is_main=is_main)
        assert seen.health is UP
        assert step(seen, DOWN, Check(), 0.0).health is DOWN
    # Of a further one nothing else would keep sessions away.
    further = unseen(Check(initial=Initial.DOWN), is_main=False)
    assert worst(UP, [further.health]) is DOWN
    assert step(further, UP, Check(), 0.0).health is UP
