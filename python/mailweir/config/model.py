"""The typed, frozen model of the configuration: what there is, with defaults and their reasons.

`load` builds it from YAML and `rules` adds what concerns more than one key. Times
are seconds (float) here, whatever unit the file uses.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    StrictInt,
    WithJsonSchema,
)
from pydantic.config import JsonDict

from mailweir.config.address import Address, parse_bind, parse_server
from mailweir.config.units import format_duration, parse_duration

# Linux: sockaddr_un.sun_path, with the ending zero.
_MAX_SOCKET_PATH = 107
_PORTS = re.compile(r"([0-9]{1,5})-([0-9]{1,5})", re.ASCII)
MAX_WEIGHT = 1000
# Patterns, and files that they stand for.
MAX_INCLUDES = 1000
# In a field's schema: how None is written.
NONE = "none"
# What a group's name begins with where users' names can stand too.
GROUP = "@"
# No rule of passwd(5) binds a directory's names; none has these.
_ACCOUNT = re.compile(rf"{GROUP}?[^\s{GROUP}:,/\0-\x1f\x7f][^\s:,/\0-\x1f\x7f]{{0,255}}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


class Protocol(StrEnum):
    """Who speaks first behind a listener."""

    SMTP = "smtp"
    SMTPS = "smtps"
    TCP = "tcp"


class Balance(StrEnum):
    """How a pool picks a server."""

    LEAST_CONN = "least_conn"
    ROUND_ROBIN = "round_robin"


class Proxy(StrEnum):
    """Which PROXY header a server gets before anything else."""

    OFF = "off"
    V1 = "v1"
    V2 = "v2"


class Forwarding(StrEnum):
    """Which path sessions take."""

    AUTO = "auto"
    KERNEL = "kernel"
    RELAY = "relay"


class LogFormat(StrEnum):
    """How a line of the session log looks."""

    JSON = "json"
    LOGFMT = "logfmt"


class CheckKind(StrEnum):
    """What a check asks of a server."""

    EHLO = "ehlo"
    TCP = "tcp"


def _check_name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"{name!r} can't be a name: letters, digits and . _ - (a letter or digit first),"
            " at most 64"
        )
    return name


def _check_workers(value: object) -> int | None:
    if value == "auto":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1024:
        return value
    raise ValueError(f"must be auto or a number from 1 to 1024, not {value!r}")


def _check_max_sessions(value: object) -> int | None:
    if value == "auto":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10_000_000:
        return value
    raise ValueError(f"must be auto or a number from 1 to 10000000, not {value!r}")


def _check_ports(value: object) -> range:
    found = _PORTS.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"must be two ports with a dash between, as 10000-32767, not {value!r}")
    first, last = map(int, found.groups())
    if not 1024 <= first <= last <= 65535:
        raise ValueError(f"must be from 1024 to 65535 and rise, not {value!r}")
    return range(first, last + 1)


def _check_log_target(value: object) -> str:
    if value in ("off", "stderr", "syslog") or (isinstance(value, str) and value.startswith("/")):
        return str(value)
    raise ValueError(f"must be stderr, syslog, off or an absolute path, not {value!r}")


def _check_source(value: object) -> IPv4Address | IPv6Address:
    try:
        if not isinstance(value, str):
            raise ValueError
        ip = ip_address(value)
    except ValueError:
        raise ValueError(f"must be an IP address without a port, not {value!r}") from None
    if ip.is_unspecified or ip.is_multicast:
        raise ValueError(f"{ip} can't be dialled from")
    return ip


def is_pattern(value: object) -> bool:
    """Whether files can be looked for by it."""
    return isinstance(value, str) and value != "" and "\0" not in value


def _check_pattern(value: object) -> str:
    if not is_pattern(value):
        raise ValueError(f"must be a file or a pattern such as conf.d/*.yaml, not {value!r}")
    return str(value)


def _check_age(seconds: float) -> float:
    if seconds and not 1.0 <= seconds <= 7 * 24 * _HOUR:
        raise ValueError(f"must be 0s (none) or from 1s to 7d, not {format_duration(seconds)}")
    return seconds


def _check_account(name: str) -> str:
    if _ACCOUNT.fullmatch(name) is None:
        raise ValueError(f"must be a user's name, or \"{GROUP}\" and a group's, not {name!r}")
    return name


def _check_http(value: object) -> Address | None:
    return None if value == "off" else parse_bind(value)


def _check_path(value: object) -> Path:
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError("must be an absolute path, one that begins with /")
    return Path(value)


def _check_socket(path: Path) -> Path:
    length = len(bytes(path))
    if length > _MAX_SOCKET_PATH:
        raise ValueError(f"is {length} bytes long; a socket's path can have {_MAX_SOCKET_PATH}")
    return path


def _from_short_form(value: object) -> object:
    return {"address": value} if isinstance(value, str) else value


def _between(low: float, high: float) -> AfterValidator:
    def check(seconds: float) -> float:
        if not low <= seconds <= high:
            raise ValueError(
                f"must be from {format_duration(low)} to {format_duration(high)},"
                f" not {format_duration(seconds)}"
            )
        return seconds

    return AfterValidator(check)


def _none_from(word: str) -> BeforeValidator:
    """Has a word mean None."""
    return BeforeValidator(lambda value: None if value == word else value)


def _none_is(word: str) -> JsonDict:
    """How None is written in a file. Where this isn't said, None is a key that isn't there."""
    return {NONE: word}


_HOUR = 3600.0
_TEXT = WithJsonSchema({"type": "string"})
_COUNT_OR_NONE = WithJsonSchema({"anyOf": [{"const": "none"}, {"type": "integer", "minimum": 1}]})
_KINDS = WithJsonSchema({"enum": ["auto", *CheckKind]})
_AUTO = WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]})
Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": "^(0|[1-9][0-9]{0,8})(ms|s|m|h|d)$"}),
]
Interval = Annotated[Duration, _between(0.1, _HOUR)]
Limit = Annotated[Duration, _between(0.05, 24 * _HOUR)]
Name = Annotated[str, AfterValidator(_check_name)]
AbsolutePath = Annotated[
    Path, PlainValidator(_check_path), WithJsonSchema({"type": "string", "pattern": "^/"})
]
Accounts = list[Annotated[str, AfterValidator(_check_account)]]
Age = Annotated[Duration, AfterValidator(_check_age)]
Sessions = Annotated[StrictInt, Field(ge=1, le=10_000_000)]
Source = Annotated[IPv4Address | IPv6Address, PlainValidator(_check_source), _TEXT]
Count = Annotated[StrictInt, Field(ge=1, le=100)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Admin(_Part):
    """Where the process can be asked and told."""

    socket: Annotated[AbsolutePath, AfterValidator(_check_socket)] = Field(
        Path("/run/mailweir/admin.sock"),
        description="Read-write; its file permissions (0660) decide who may, or `operators` and"
        " `readers` do. /run is emptied at boot, so no stale socket outlives the machine.",
    )
    operators: Accounts = Field(
        [],
        description='Users, and groups as "@mailadmins", who may do everything at the socket,'
        " beside root and the process's own user. With these or `readers` given, everybody may open"
        " it (0666) and the kernel says who asks; without, whoever may open it may do everything.",
    )
    readers: Accounts = Field(
        [], description="Users and groups who may look at everything and change nothing."
    )
    http: Annotated[Address | None, PlainValidator(_check_http), _TEXT] = Field(
        parse_bind("127.0.0.1:8025"),
        description="Page, /metrics, /healthz and /readyz, read-only; `off` for none. Loopback,"
        " since names and addresses of a farm are nobody else's business.",
        json_schema_extra=_none_is("off"),
    )


class Drain(_Part):
    """How sessions are taken off a server, and off the process when it ends."""

    deadline: Annotated[Duration, _between(0.0, 24 * _HOUR)] = Field(
        1800.0,
        description="How long sessions may go on after TERM or a drain. 30m lets a large message"
        " over a slow line end, and a session that reached an idle limit (11m) as well.",
    )
    quiet: Interval = Field(
        5.0,
        description="A session is cut once its server spoke last and both were silent for so long;"
        " 30s where TLS or BDAT hides what they say. Postfix uses a cached connection within 2s.",
    )
    spread: Annotated[Duration, _between(0.0, _HOUR)] = Field(
        60.0,
        description="Sessions are cut over this time, so that not all clients come back at once.",
    )


class Log(_Part):
    """The session log: a line for each session that has ended."""

    sessions: Annotated[str, PlainValidator(_check_log_target), _TEXT] = Field(
        "stderr",
        description="`stderr`, where a service manager keeps it, `syslog`, `off` or a file's path;"
        " USR1 opens the file anew.",
    )
    format: LogFormat = Field(
        LogFormat.JSON, description="One JSON object a line, or `logfmt` (key=value)."
    )


class Limits(_Part):
    """How much a listener takes."""

    sessions: Annotated[Sessions | None, _none_from("none"), _COUNT_OR_NONE] = Field(
        None,
        description="At a time; more hear 421. The process's own limit is enough by default.",
        json_schema_extra=_none_is("none"),
    )


class Timeouts(_Part):
    """How long a listener's sessions may wait, and for what."""

    connect: Limit = Field(
        3.0,
        description="For one server to accept. Beyond one lost SYN (1s), so that a lost packet"
        " isn't taken for a dead server.",
    )
    greeting: Limit = Field(
        15.0,
        description="For one server to greet once it has accepted; then another one is tried."
        " postscreen and servers that look clients up first take some seconds.",
    )
    accept_total: Limit = Field(
        45.0,
        description="For all attempts together, from the client's connect. Half of the least that"
        " senders wait for a greeting.",
    )
    idle_client: Limit = Field(
        330.0,
        description="After the server spoke last. Beyond Postfix's own 300s, so that the server's"
        " 421 comes first.",
    )
    idle_server: Limit = Field(
        660.0,
        description="After the client spoke last. RFC 5321, 4.5.3.2.6 allows 10 min for the answer"
        " to the final dot; cutting there makes duplicates.",
    )
    half_closed: Limit = Field(
        60.0,
        description="After one side closed its direction, without anything from the other.",
    )
    i_accept_duplicates: StrictBool = Field(
        False,
        description="Allows idle limits below what keeps mail from being sent twice.",
    )


class Listener(_Part):
    """An address that clients connect to."""

    bind: Annotated[
        list[Annotated[Address, PlainValidator(parse_bind), _TEXT]], Field(min_length=1)
    ] = Field(
        description="Addresses with ports; 0.0.0.0 is all of IPv4 of this machine, [::] of IPv6."
    )
    pool: str = Field(description="Which servers its sessions go to.")
    protocol: Protocol = Field(
        Protocol.SMTP, description="Mail is what this is for; ports 25 and 587 speak it."
    )
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    max_age: Age = Field(
        0.0,
        description="An older session is cut as in a drain, so that senders with long sessions"
        " spread again; 0s for never.",
    )
    forwarding: Forwarding | None = Field(
        None, description="Which path its sessions take; by default the process's own word."
    )


class Server(_Part):
    """A mail server of a pool. The short form is its address alone."""

    address: Annotated[Address, PlainValidator(parse_server), _TEXT] = Field(
        description="Where it is reached: an IP address with a port."
    )
    weight: Annotated[StrictInt, Field(ge=0, le=MAX_WEIGHT)] = Field(
        100,
        description="Share of the pool's sessions, by the sum of weights; 0 takes no new ones. 100"
        " leaves room for finer and for larger shares.",
    )
    max_sessions: Annotated[Sessions | None, _none_from("none"), _COUNT_OR_NONE] = Field(
        None,
        description="At a time; more go to other servers, or hear 421.",
        json_schema_extra=_none_is("none"),
    )
    proxy: Proxy = Field(
        Proxy.OFF,
        description="The PROXY header that tells the server who the client is. Off, since a"
        " server that doesn't expect one takes it for a client's nonsense.",
    )
    source: list[Source] = Field(
        [],
        description="Addresses that the server is dialled from in turn, each with ports of its"
        " own. By default the one that the route gives.",
    )


class Check(_Part):
    """How the servers of a pool are checked."""

    kind: Annotated[CheckKind | None, _none_from("auto"), _KINDS] = Field(
        None,
        json_schema_extra=_none_is("auto"),
        description="`auto`: `ehlo` where only smtp listeners use the pool, since a server that"
        " accepts but doesn't greet is no use; else `tcp`.",
    )
    every: Interval = Field(
        10.0, description="Between checks when nothing changes. Each is a session on the server."
    )
    fast: Interval = Field(2.0, description="Between checks while a change isn't confirmed yet.")
    rise: Count = Field(2, description="Successes in a row until a server is up again.")
    fall: Count = Field(
        3,
        description="Failures in a row until it is down. Clients don't suffer from it: a session"
        " whose server doesn't accept goes to the next one.",
    )
    timeout: Interval = Field(
        15.0,
        description="For a whole check. Greetings are delayed on purpose by postscreen (6s) and"
        " by DNS lookups.",
    )


class Pool(_Part):
    """Servers that share sessions."""

    balance: Balance = Field(
        Balance.LEAST_CONN,
        description="Sessions of mail differ in length by orders of magnitude; counting those that"
        " are open evens that out.",
    )
    servers: Annotated[
        dict[Name, Annotated[Server, BeforeValidator(_from_short_form)]], Field(min_length=1)
    ] = Field(description="Each under a name of your own. The short form is `mx1: 10.0.2.11:25`.")
    check: Check = Check()


class Config(_Part):
    """The whole file."""

    workers: Annotated[int | None, PlainValidator(_check_workers), _AUTO] = Field(
        None,
        description="Data-plane threads; `auto` is one per CPU this process may use.",
        json_schema_extra=_none_is("auto"),
    )
    max_sessions: Annotated[int | None, PlainValidator(_check_max_sessions), _AUTO] = Field(
        None,
        description="Of all listeners together; more hear 421. `auto` is what the descriptors are"
        " enough for.",
        json_schema_extra=_none_is("auto"),
    )
    forwarding: Forwarding = Field(
        Forwarding.AUTO,
        description="`auto`: through the kernel where that can be, else through this process;"
        " `kernel`: the same, but it must be there; `relay`: through this process.",
    )
    source_ports: Annotated[range, PlainValidator(_check_ports), _TEXT] = Field(
        range(10000, 32768),
        description="Of servers' connections that go through the kernel. Apart from what the system"
        " gives out by itself (32768 and above), since it doesn't know of them.",
    )
    max_flows: Annotated[StrictInt, Field(ge=1, le=65536)] = Field(
        65536, description="Sessions in the kernel, those included that ended within a minute."
    )
    admin: Admin = Admin()
    log: Log = Log()
    state_dir: AbsolutePath = Field(
        Path("/var/lib/mailweir"), description="Holds the lock that keeps a second process out."
    )
    drain: Drain = Drain()
    include: Annotated[
        list[Annotated[str, PlainValidator(_check_pattern), _TEXT]],
        Field(max_length=MAX_INCLUDES),
    ] = Field(
        [],
        description="Files with more `listeners` and `pools`, and nothing else, as in"
        ' ["conf.d/*.yaml"]; relative to the folder of this one, read in the order of their names.',
    )
    listeners: Annotated[dict[Name, Listener], Field(min_length=1)] = Field(
        description="The addresses that clients connect to, each listener under a name of your own."
    )
    pools: Annotated[dict[Name, Pool], Field(min_length=1)] = Field(
        description="The mail servers, in pools under names of your own."
    )

    def check_kind(self, pool: str) -> CheckKind:
        """What the servers of `pool` are asked: as configured, or by who uses the pool."""
        return self.pools[pool].check.kind or default_check_kind(self.protocols(pool))

    def protocols(self, pool: str) -> set[Protocol]:
        """The protocols of the listeners that use `pool`."""
        return {listener.protocol for _, listener in self.users(pool)}

    def users(self, pool: str) -> Iterator[tuple[str, Listener]]:
        """The listeners that use `pool`, by name."""
        return ((n, listener) for n, listener in self.listeners.items() if listener.pool == pool)


def default_check_kind(protocols: set[Protocol]) -> CheckKind:
    """`ehlo` where every listener of a pool speaks plain SMTP first, else `tcp`."""
    return CheckKind.EHLO if protocols == {Protocol.SMTP} else CheckKind.TCP
