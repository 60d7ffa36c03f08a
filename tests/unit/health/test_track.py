"""Rise and fall: the first result decides, afterwards only runs do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailweir.config.pool import Check
from mailweir.health.track import Track, interval, renewed, step
from mailweir.state.desired import Health

CHECK = Check(rise=2, fall=3)
UP, DOWN, UNKNOWN = Health.UP, Health.DOWN, Health.UNKNOWN


def run(results: str, track: Track | None = None, check: Check = CHECK) -> Track:
    track = track or Track()
    for result in results:
        track = step(track, result == "+", check)
    return track


@pytest.mark.parametrize(
    ("results", "health", "pending"),
    [
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
def test_transitions(results: str, health: Health, pending: bool) -> None:
    track = run(results)
    assert (track.health, track.pending) == (health, pending)


def test_a_changed_address_keeps_health_until_the_next_result() -> None:
    track = renewed(run("+--"))
    assert (track.health, track.pending) == (UP, False)
    assert run("-", track).health is DOWN
    assert run("+", track).health is UP


def test_fast_only_while_a_change_is_pending() -> None:
    assert interval(run("+"), CHECK) == CHECK.every
    assert interval(run("+-"), CHECK) == CHECK.fast
    assert interval(run("-"), CHECK) == CHECK.every
    assert interval(run("-+"), CHECK) == CHECK.fast


@given(
    st.lists(st.sampled_from("+-"), min_size=1, max_size=40), st.integers(1, 5), st.integers(1, 5)
)
def test_a_change_has_a_run_behind_it(results: list[str], rise: int, fall: int) -> None:
    check = Check(rise=rise, fall=fall)
    track = step(Track(), results[0] == "+", check)
    for index, result in enumerate(results[1:], start=1):
        after = step(track, result == "+", check)
        if after.health is not track.health:
            needed = rise if after.health is UP else fall
            assert results[max(0, index - needed + 1) : index + 1] == [result] * needed
        assert 0 <= after.streak < max(rise, fall)
        track = after
