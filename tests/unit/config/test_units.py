"""Durations, rates, shares: what is read, what is refused and how it is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailweir.config.units import (
    format_duration,
    format_rate,
    parse_duration,
    parse_rate,
    parse_share,
)


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


@pytest.mark.parametrize(
    ("text", "count", "seconds"),
    [("5/s", 5, 1.0), ("100/min", 100, 60.0), ("100000/h", 100_000, 3600.0)],
)
def test_rates(text: str, count: int, seconds: float) -> None:
    rate = parse_rate(text)
    assert (rate.count, rate.seconds, str(rate)) == (count, seconds, text)
    assert format_rate(count, seconds) == text


@pytest.mark.parametrize(
    "value", ["0/s", "100001/s", "05/s", "5/m", "5", "5 /s", "-5/s", "5/s ", 5, None, True, ["5/s"]]
)
def test_no_rates(value: object) -> None:
    message = r"must be a rate such as 5/s, 100/min or 1000/h \(from 1 to 100000\), not "
    with pytest.raises(ValueError, match=message):
        parse_rate(value)


@given(st.integers(0, 100))
def test_shares(percent: int) -> None:
    share = parse_share(f"{percent}%")
    assert share == percent / 100
    assert str(share) == f"{percent}%"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (50, "needs its unit: write 50%"),
        *((value, "must be a share from 0% to 100%") for value in ("101%", "-1%", "5.5%", "05%")),
        *((value, "must be a share from 0% to 100%") for value in (0.5, None, True, "50")),
    ],
)
def test_no_shares(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_share(value)
