"""A pool of the configuration: servers that share sessions. A part of `model`."""

from typing import Annotated

from pydantic import BeforeValidator, Field, PlainValidator, StrictInt, WithJsonSchema

from mailweir.config.address import Address, parse_server
from mailweir.config.kinds import (
    COUNT_OR_NONE,
    TEXT,
    Count,
    Interval,
    Name,
    Part,
    Sessions,
    Source,
    none_from,
    none_is,
)
from mailweir.config.words import Balance, CheckKind, Proxy

MAX_WEIGHT = 1000
_KINDS = WithJsonSchema({"enum": ["auto", *CheckKind]})


def _from_short_form(value: object) -> object:
    return {"address": value} if isinstance(value, str) else value


class Server(Part):
    """A mail server of a pool. The short form is its address alone."""

    address: Annotated[Address, PlainValidator(parse_server), TEXT] = Field(
        description="Where it is reached: an IP address with a port."
    )
    weight: Annotated[StrictInt, Field(ge=0, le=MAX_WEIGHT)] = Field(
        100,
        description="Share of the pool's sessions, by the sum of weights; 0 takes no new ones. 100"
        " leaves room for finer and for larger shares.",
    )
    max_sessions: Annotated[Sessions | None, none_from("none"), COUNT_OR_NONE] = Field(
        None,
        description="At a time; more go to other servers, or hear 421.",
        json_schema_extra=none_is("none"),
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


class Check(Part):
    """How the servers of a pool are checked."""

    kind: Annotated[CheckKind | None, none_from("auto"), _KINDS] = Field(
        None,
        json_schema_extra=none_is("auto"),
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


class Pool(Part):
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
