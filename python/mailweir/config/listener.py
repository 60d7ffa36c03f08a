"""A listener of the configuration: what clients connect to. A part of `model`."""

from typing import Annotated

from pydantic import Field, PlainValidator, StrictBool

from mailweir.config.address import Address, parse_bind
from mailweir.config.kinds import (
    COUNT_OR_NONE,
    TEXT,
    Age,
    Limit,
    Part,
    Sessions,
    none_from,
    none_is,
)
from mailweir.config.words import Forwarding, Protocol


class Limits(Part):
    """How much a listener takes."""

    sessions: Annotated[Sessions | None, none_from("none"), COUNT_OR_NONE] = Field(
        None,
        description="At a time; more hear 421. The process's own limit is enough by default.",
        json_schema_extra=none_is("none"),
    )


class Timeouts(Part):
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


class Listener(Part):
    """An address that clients connect to."""

    bind: Annotated[
        list[Annotated[Address, PlainValidator(parse_bind), TEXT]], Field(min_length=1)
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
