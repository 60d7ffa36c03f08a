"""The typed, frozen model of the configuration: what there is, with defaults and their reasons.

`load` builds it from YAML and `rules` adds what concerns more than one key. Its larger parts have
modules of their own: `listener`, `pool` and `ha`. `kinds` says what values can be, `words` which
words.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    StrictInt,
)

from mailweir.config.address import parse_bind
from mailweir.config.ha import Ha
from mailweir.config.kinds import (
    AUTO,
    HOUR,
    TEXT,
    AbsolutePath,
    Duration,
    Host,
    Http,
    Interval,
    InWords,
    Name,
    Part,
    SocketPath,
    between,
    none_from,
    none_is,
)
from mailweir.config.listener import Listener
from mailweir.config.pool import Pool
from mailweir.config.words import CheckKind, Forwarding, LogFormat, Protocol

_PORTS = re.compile(r"([0-9]{1,5})-([0-9]{1,5})", re.ASCII)
# Patterns, and files that they stand for.
MAX_INCLUDES = 1000
_MOST_HOSTS = 100
# What `check` of a pool is called among its checks.
MAIN_CHECK = "check"
# What a group's name begins with where users' names can stand too.
GROUP = "@"
# No rule of passwd(5) binds a directory's names; none has these.
_ACCOUNT = re.compile(rf"{GROUP}?[^\s{GROUP}:,/\0-\x1f\x7f][^\s:,/\0-\x1f\x7f]{{0,255}}")


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


def is_pattern(value: object) -> bool:
    """Whether files can be looked for by it."""
    return isinstance(value, str) and value != "" and "\0" not in value


def _check_pattern(value: object) -> str:
    if not is_pattern(value):
        raise ValueError(f"must be a file or a pattern such as conf.d/*.yaml, not {value!r}")
    return str(value)


def _check_account(name: str) -> str:
    if _ACCOUNT.fullmatch(name) is None:
        raise ValueError(f"must be a user's name, or \"{GROUP}\" and a group's, not {name!r}")
    return name


Accounts = list[
    Annotated[str, AfterValidator(_check_account), InWords(f'a user, or a group as "{GROUP}name"')]
]


class Admin(Part):
    """Where the process can be asked and told."""

    socket: SocketPath = Field(
        Path("/run/mailweir/admin.sock"),
        description="The socket that commands ask, to look and to change. Its file permissions"
        " (0660) decide who may, or `operators` and `readers` do. /run is emptied at boot, so no"
        " stale socket outlives the machine.",
    )
    operators: Accounts = Field(
        [],
        description='Users, and groups as "@mailadmins", who may do everything at the socket,'
        " beside root and the process's own user. With these or `readers` given, everybody may"
        " open it (0666) and the kernel says who asks; without, everybody who may open it may do"
        " everything.",
    )
    readers: Accounts = Field(
        [], description="Users and groups who may look at everything and change nothing."
    )
    http: Http = Field(
        parse_bind("127.0.0.1:8025"),
        description="The address of the page, /metrics, /healthz and /readyz, where nothing can"
        " be changed; `off` for none. It is loopback, since names and addresses of a farm are"
        " nobody else's business.",
        json_schema_extra=none_is("off"),
    )
    hosts: Annotated[list[Host], Field(max_length=_MOST_HOSTS)] = Field(
        [],
        description="Names by which `admin.http` and `ha.http` are asked, as Prometheus asks by the"
        " host's full name; beside localhost, the host's own name and IP addresses. No others are"
        " answered, since a page in a browser could have its own name point here.",
    )


class Drain(Part):
    """How sessions are taken off a server, and off the process when it ends."""

    deadline: Annotated[Duration, between(0.0, 24 * HOUR)] = Field(
        1800.0,
        description="How long sessions may go on after TERM or a drain. 30m lets a large message"
        " over a slow line end, and a session that reached an idle limit (11m) as well.",
    )
    quiet: Interval = Field(
        5.0,
        description="A session that says nothing more is cut between two commands once both sides"
        " were silent for so long; Postfix uses a cached connection again within 2s. A session"
        " that can't be read (TLS, the kernel path) is cut after 30s of silence, once the server"
        " spoke last. A client that goes on is told at its next command.",
    )
    spread: Annotated[Duration, between(0.0, HOUR)] = Field(
        60.0,
        description="Sessions are cut over this time, so that not all clients come back at once.",
    )


class Log(Part):
    """The session log: a line for each session that has ended."""

    sessions: Annotated[
        str,
        PlainValidator(_check_log_target),
        TEXT,
        InWords("`stderr`, `syslog`, `off` or an absolute path"),
    ] = Field(
        "stderr",
        description="Where the lines go: `stderr`, where a service manager keeps them, `syslog`,"
        " a file's path, or `off` for nowhere. USR1 opens the file anew.",
    )
    format: LogFormat = Field(
        LogFormat.JSON, description="How a line looks: one JSON object, or key=value (`logfmt`)."
    )


class Config(Part):
    """The whole file."""

    workers: Annotated[
        int | None, PlainValidator(_check_workers), AUTO, InWords("a number from 1 to 1024")
    ] = Field(
        None,
        description="Data-plane threads; `auto` is one per CPU this process may use.",
        json_schema_extra=none_is("auto"),
    )
    max_sessions: Annotated[
        int | None,
        PlainValidator(_check_max_sessions),
        AUTO,
        InWords("a number from 1 to 10000000"),
    ] = Field(
        None,
        description="How many sessions there may be at a time, of all listeners together; more"
        " hear 421. `auto` is what descriptors and memory are enough for.",
        json_schema_extra=none_is("auto"),
    )
    forwarding: Forwarding = Field(
        Forwarding.AUTO,
        description="`auto`: through the kernel where that can be, else through this process;"
        " `kernel`: the same, but it must be there; `relay`: through this process.",
    )
    source_ports: Annotated[
        range, PlainValidator(_check_ports), TEXT, InWords("two ports from 1024 to 65535")
    ] = Field(
        range(10000, 32768),
        description="The source ports of connections to servers that go through the kernel. They"
        " have to be other ones than the system gives out by itself (32768 and above), since it"
        " doesn't know of them.",
    )
    max_flows: Annotated[StrictInt, Field(ge=1, le=1 << 20)] = Field(
        65536,
        description="Sessions in the kernel at a time, 1048576 at most. The kernel keeps some 330"
        " bytes for each from the start, and 16 MiB besides.",
    )
    admin: Admin = Admin()
    log: Log = Log()
    state_dir: AbsolutePath = Field(
        Path("/var/lib/mailweir"),
        description="Holds the lock that keeps a second process out, and what operators said.",
    )
    drain: Drain = Drain()
    include: Annotated[
        list[Annotated[str, PlainValidator(_check_pattern), TEXT, InWords("a path or a pattern")]],
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
    ha: Annotated[Ha | None, none_from("none")] = Field(
        None,
        description="Two balancers that hold virtual addresses together, by `mailweir ha run`"
        " beside this process. The same on both, but for `node`.",
        json_schema_extra=none_is("none"),
    )

    def check_kind(self, pool: str) -> CheckKind:
        """What the servers of `pool` are asked: as configured, or by who uses the pool."""
        return self.pools[pool].check.kind or default_check_kind(self.protocols(pool))

    def protocols(self, pool: str) -> set[Protocol]:
        """The protocols of the listeners that use `pool`."""
        return {listener.protocol for _, listener in self.users(pool)}

    def users(self, pool: str) -> Iterator[tuple[str, Listener]]:
        """The listeners whose sessions may come to `pool`, by name; also by overflow."""
        for name, listener in self.listeners.items():
            own = self.pools.get(listener.pool)
            if pool == listener.pool or (own and pool in own.overflow):
                yield name, listener


def default_check_kind(protocols: set[Protocol]) -> CheckKind:
    """`ehlo` where every listener of a pool speaks plain SMTP first, else `tcp`."""
    return CheckKind.EHLO if protocols == {Protocol.SMTP} else CheckKind.TCP
