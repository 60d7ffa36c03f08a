"""The words that a key may be, of those that have a closed list. Imported by whoever decides by
one of them.
"""

from enum import StrEnum


class Protocol(StrEnum):
    """Who speaks first behind a listener."""

    SMTP = "smtp"
    SMTPS = "smtps"
    TCP = "tcp"


class Balance(StrEnum):
    """How a pool picks a server."""

    LEAST_CONN = "least_conn"
    ROUND_ROBIN = "round_robin"
    RANDOM_TWO = "random_two"
    SOURCE_HASH = "source_hash"
    MAGLEV = "maglev"
    LEAST_LOAD = "least_load"


# Those that give a source the same server each time.
HASHES = frozenset((Balance.SOURCE_HASH, Balance.MAGLEV))


class StickyBy(StrEnum):
    """By what a client is known again."""

    SOURCE = "source"


class Refuse(StrEnum):
    """How unwanted sources are turned away."""

    REPLY = "reply"
    RESET = "reset"
    DROP = "drop"


class Others(StrEnum):
    """What becomes of clients that are in neither list."""

    ADMIT = "admit"
    REFUSE = "refuse"


class DryRun(StrEnum):
    """What can be counted only, without keeping anybody out."""

    ACCESS = "access"
    SOURCE_SESSIONS = "source_sessions"
    SOURCE_RATE = "source_rate"
    SESSIONS = "sessions"


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

    TCP = "tcp"
    GREETING = "greeting"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"
    RCPT = "rcpt"
    MESSAGE = "message"
    HTTP = "http"
    HTTPS = "https"
    AGENT = "agent"


# Those that speak SMTP with the server.
SMTP_KINDS = frozenset(
    (
        CheckKind.GREETING,
        CheckKind.EHLO,
        CheckKind.STARTTLS,
        CheckKind.AUTH,
        CheckKind.RCPT,
        CheckKind.MESSAGE,
    )
)
# Those at a port of their own.
HTTP_KINDS = frozenset((CheckKind.HTTP, CheckKind.HTTPS))


class Decides(StrEnum):
    """What comes of a check."""

    STATE = "state"
    WEIGHT = "weight"
    ALARM = "alarm"


class Verify(StrEnum):
    """What of a certificate has to be right, beside its time."""

    CHAIN = "chain"
    NAME = "name"
    NONE = "none"


class Initial(StrEnum):
    """What a server is before its first check is over."""

    UP = "up"
    DOWN = "down"


class OnDown(StrEnum):
    """What becomes of the sessions of a server that checks call down."""

    LEAVE = "leave"  # they go on: to their end, or to a limit
    END = "end"  # they end at once


class HaMode(StrEnum):
    """Who moves the virtual addresses of a pair."""

    NATIVE = "native"
    EXTERNAL = "external"


class HaRole(StrEnum):
    """What a node of a pair is."""

    ACTIVE = "active"
    BACKUP = "backup"
    FAULT = "fault"
    STOPPED = "stopped"


class HaKeeper(StrEnum):
    """Who says so: who moves the virtual addresses."""

    NATIVE = "native"
    KEEPALIVED = "keepalived"
