"""Quantities as they are written in the configuration: durations (`500ms`, `30s`, `4h`), rates
(`100/min`) and shares (`50%`).

Used by the model to read them and by the diff to write them.
"""

import re
from dataclasses import dataclass

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(0|[1-9][0-9]{0,8})(ms|s|m|h|d)", re.ASCII)
_NUMBER = re.compile(r"[0-9]+", re.ASCII)
_PERIODS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_RATE = re.compile(r"([1-9][0-9]{0,5})/(s|min|h)", re.ASCII)
_MAX_RATE = 100_000
_SHARE = re.compile(r"(0|[1-9][0-9]{0,2})%", re.ASCII)


def parse_duration(value: object) -> float:
    """Seconds of a duration such as `500ms`, `30s`, `5m`, `4h` or `1d`.

    Raises ValueError with a message for the operator. A bare number is refused
    rather than guessed at: other balancers read it as milliseconds.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(f"needs a unit: write {value}s or {value}ms")
    if not isinstance(value, str):
        raise ValueError("must be a duration such as 500ms, 30s or 4h")
    match = _DURATION.fullmatch(value)
    if match is None:
        if _NUMBER.fullmatch(value):
            raise ValueError(f"needs a unit and no leading zero: write {value.lstrip('0') or 0}s")
        raise ValueError(
            f"must be a duration such as 500ms, 30s or 4h (a whole number and one of"
            f" ms, s, m, h, d), not {value!r}"
        )
    number, unit = match.groups()
    if unit == "ms":
        return int(number) / 1000
    return int(number) * _SECONDS[unit]


def format_duration(seconds: float) -> str:
    """The shortest exact writing of a duration; `parse_duration` reads it back."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    for unit in ("d", "h", "m", "s"):
        size = round(_SECONDS[unit] * 1000)
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in a period: `s`, `min` or `h`."""

    count: int
    period: str

    @property
    def seconds(self) -> float:
        """How long the period is."""
        return _PERIODS[self.period]

    def __str__(self) -> str:
        return f"{self.count}/{self.period}"


def format_rate(count: int, seconds: float) -> str:
    """So many in a period of `seconds`; `parse_rate` reads it back."""
    return next(str(Rate(count, name)) for name, long in _PERIODS.items() if long == seconds)


def parse_rate(value: object) -> Rate:
    """A rate such as `5/s`, `100/min` or `1000/h`. Raises ValueError."""
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) > _MAX_RATE:
        raise ValueError(
            f"must be a rate such as 5/s, 100/min or 1000/h (from 1 to {_MAX_RATE}), not {value!r}"
        )
    return Rate(int(match[1]), match[2])


def format_days(seconds: float) -> str:
    """How long until something that is days away, which begins or ends at a day's notice."""
    days = int(seconds // 86400)
    return "less than a day" if days < 1 else "1 day" if days == 1 else f"{days} days"


class Share(float):
    """A part of a whole, from 0 to 1; written in percent."""

    def __str__(self) -> str:
        return f"{round(self * 100)}%"


def parse_share(value: object) -> Share:
    """A share such as `50%`. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(f"needs its unit: write {value}%")
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) > 100:
        raise ValueError(f"must be a share from 0% to 100%, not {value!r}")
    return Share(int(match[1]) / 100)
