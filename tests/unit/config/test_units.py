"""Durations: what is read, what is refused and how it is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailweir.config.units import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("0s", 0.0), ("30s", 30.0), ("5m", 300.0), ("4h", 14400.0), ("1d", 86400.0)],
)
def test_reads(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (30, "needs a unit: write 30s or 30ms"),
        ("30", "needs a unit and no leading zero: write 30s"),
        ("007", "needs a unit and no leading zero: write 7s"),
        (True, "must be a duration such as 500ms, 30s or 4h"),
        (1.5, "must be a duration such as 500ms, 30s or 4h"),
        (None, "must be a duration such as 500ms, 30s or 4h"),
        ("1.5s", "not '1.5s'"),
        ("-3s", "not '-3s'"),
        ("3 s", "not '3 s'"),
        ("05s", "not '05s'"),
        ("3S", "not '3S'"),
        ("٣s", "not '٣s'"),
        ("1h30m", "not '1h30m'"),
    ],
)
def test_refuses(value: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        parse_duration(value)
    assert message in str(caught.value)


@given(st.integers(0, 10**9), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_what_is_written_is_read_back(number: int, unit: str) -> None:
    if len(str(number)) > 9:
        return
    seconds = parse_duration(f"{number}{unit}")
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.booleans()))
def test_anything_else_is_a_value_error(value: object) -> None:
    try:
        seconds = parse_duration(value)
    except ValueError:
        return
    assert seconds >= 0
