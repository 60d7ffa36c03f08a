"""What values of the configuration can be: checked types, with messages for the operator.

Used by `model` and its parts (`listener`, `pool`, `ha`), nowhere else. Times are seconds (float)
here, whatever unit the file uses.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictInt,
    WithJsonSchema,
)
from pydantic.config import JsonDict

from mailweir.config.address import Address, parse_bind, refuse_unusable
from mailweir.config.units import Share, format_duration, parse_duration, parse_share

# In a field's schema: how None is written.
NONE = "none"
HOUR = 3600.0
# Linux: sockaddr_un.sun_path, without the ending zero, and without the `.root` of the second socket
# (`admin.place`).
_MAX_SOCKET_PATH = 107 - len(".root")
# RFC 1123, 2.1 and RFC 1035, 2.3.4: no underscores, which mail servers refuse too.
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_LONGEST_HOST = 253
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)

TEXT = WithJsonSchema({"type": "string"})
COUNT_OR_NONE = WithJsonSchema({"anyOf": [{"const": "none"}, {"type": "integer", "minimum": 1}]})
AUTO = WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]})


@dataclass(frozen=True, slots=True)
class InWords:
    """What a value is, as pages say it: `an IP address`. It stands beside a type that tells less
    than its checks do.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Between:
    """Which times are taken, in seconds: from `low` to `high`."""

    low: float
    high: float

    def __call__(self, seconds: float) -> float:
        """The same time. Raises ValueError for one that isn't taken."""
        if not self.low <= seconds <= self.high:
            raise ValueError(
                f"must be from {format_duration(self.low)} to {format_duration(self.high)},"
                f" not {format_duration(seconds)}"
            )
        return seconds


class Part(BaseModel):
    """Keys that stand together."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def _check_name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"{name!r} can't be a name: letters, digits and . _ - (a letter or digit first),"
            " at most 64"
        )
    return name


def parse_ip(value: object) -> IPv4Address | IPv6Address:
    """One address alone. Raises ValueError."""
    try:
        if not isinstance(value, str):
            raise ValueError
        return ip_address(value)
    except ValueError:
        raise ValueError(f"must be an IP address without a port, not {value!r}") from None


def _check_source(value: object) -> IPv4Address | IPv6Address:
    ip = parse_ip(value)
    if ip.is_unspecified:
        raise ValueError(f"{ip} stands for every address; name one")
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        raise ValueError(f"write the IPv4 address itself: {ip.ipv4_mapped}")
    refuse_unusable(ip)
    if isinstance(ip, IPv6Address) and ip.scope_id is not None:
        raise ValueError("addresses with a zone (%) can't be used")
    return ip


def _check_host(name: str) -> str:
    if len(name) > _LONGEST_HOST or _HOST.fullmatch(name) is None:
        raise ValueError(f"must be a host name such as lb1.example.com, not {name!r:.60}")
    return name


def _check_age(seconds: float) -> float:
    if seconds and not 1.0 <= seconds <= 7 * 24 * HOUR:
        raise ValueError(f"must be 0s (none) or from 1s to 7d, not {format_duration(seconds)}")
    return seconds


def _check_path(value: object) -> Path:
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError("must be an absolute path, one that begins with /")
    return Path(value)


def _check_socket(path: Path) -> Path:
    length = len(bytes(path))
    if length > _MAX_SOCKET_PATH:
        raise ValueError(f"is {length} bytes long; a socket's path can have {_MAX_SOCKET_PATH}")
    return path


def _check_http(value: object) -> Address | None:
    return None if value == "off" else parse_bind(value)


def between(low: float, high: float) -> AfterValidator:
    return AfterValidator(Between(low, high))


def none_from(word: str) -> BeforeValidator:
    """Has a word mean None, and nothing else: a key without a value was forgotten."""

    def read(value: object) -> object:
        if value is None:
            raise ValueError("has no value")
        return None if value == word else value

    return BeforeValidator(read)


def none_is(word: str) -> JsonDict:
    """How None is written in a file. Where this isn't said, None is a key that isn't there."""
    return {NONE: word}


def bare(kind: Any) -> Any:
    """A key's type without what stands beside it: checks, and that it may be None."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    choices = get_args(kind)
    if len(choices) == 2 and choices[1] is NoneType:
        kind = choices[0]
    return kind


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": "^(0|[1-9][0-9]{0,8})(ms|s|m|h|d)$"}),
    InWords("a time"),
]
Interval = Annotated[Duration, between(0.1, HOUR)]
Limit = Annotated[Duration, between(0.05, 24 * HOUR)]
Name = Annotated[str, AfterValidator(_check_name), InWords("a name")]
# A host's name in DNS.
Host = Annotated[str, AfterValidator(_check_host), InWords("a host name")]
AbsolutePath = Annotated[
    Path,
    PlainValidator(_check_path),
    WithJsonSchema({"type": "string", "pattern": "^/"}),
    InWords("an absolute path"),
]
SocketPath = Annotated[
    AbsolutePath,
    AfterValidator(_check_socket),
    InWords(f"an absolute path of {_MAX_SOCKET_PATH} bytes at most"),
]
# Where HTTP is listened at; None for nowhere, written `off`.
Http = Annotated[
    Address | None, PlainValidator(_check_http), TEXT, InWords("an IP address and a port")
]
Age = Annotated[Duration, AfterValidator(_check_age), InWords("`0s`, or a time from 1s to 7d")]
Sessions = Annotated[StrictInt, Field(ge=1, le=10_000_000)]
Source = Annotated[
    IPv4Address | IPv6Address, PlainValidator(_check_source), TEXT, InWords("an IP address")
]
Count = Annotated[StrictInt, Field(ge=1, le=100)]
Percentage = Annotated[
    Share,
    PlainValidator(parse_share),
    WithJsonSchema({"type": "string", "pattern": "^(100|[1-9]?[0-9])%$"}),
    InWords("a share from 0% to 100%"),
]
# How many leading bits of an address count.
Bits4 = Annotated[StrictInt, Field(ge=0, le=32)]
Bits6 = Annotated[StrictInt, Field(ge=0, le=128)]
