"""A listener of the configuration: what clients connect to. A part of `model`."""

from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, PlainValidator, StrictBool, StrictInt, WithJsonSchema

from mailweir.config.address import Address, parse_bind
from mailweir.config.kinds import (
    AUTO,
    COUNT_OR_NONE,
    TEXT,
    Age,
    Bits4,
    Bits6,
    InWords,
    Limit,
    Part,
    Sessions,
    none_from,
    none_is,
)
from mailweir.config.others import others_by_lists
from mailweir.config.prefixes import Prefixes, apart
from mailweir.config.units import Rate, parse_rate
from mailweir.config.words import DryRun, Forwarding, Others, Protocol, Refuse

_RATE = WithJsonSchema(
    {"anyOf": [{"const": "none"}, {"type": "string", "pattern": "^[1-9][0-9]{0,5}/(s|min|h)$"}]}
)
_DRY_RUN = WithJsonSchema(
    {"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"enum": [*DryRun]}}]}
)
Burst = Annotated[StrictInt, Field(ge=1, le=100_000)]
PrefixList = Annotated[
    Prefixes, InWords("a list of prefixes, addresses and absolute paths of files with some")
]


def _check_rate(value: object) -> Rate | None:
    return None if value == "none" else parse_rate(value)


def _check_dry_run(value: object) -> bool | list[DryRun]:
    if isinstance(value, bool):
        return value
    words = value if isinstance(value, list) else [value]
    wrong = [word for word in words if word not in [*DryRun]]
    if isinstance(value, list) and not wrong:
        return [DryRun(word) for word in value]
    if isinstance(value, str) and not wrong:
        raise ValueError(f"must be a list: write [{value}]")
    told = f", not {wrong[0]!r}" if wrong and isinstance(wrong[0], str) else ""
    raise ValueError(f"must be true, false or a list of {', '.join(DryRun)}{told}")


class PerSource(Part):
    """How much a listener takes from one source. What is usual differs from farm to farm."""

    sessions: Annotated[Sessions | None, none_from("none"), COUNT_OR_NONE] = Field(
        None,
        description="How many sessions a source may have at a time; more are refused, as `refuse`"
        " has it.",
        json_schema_extra=none_is("none"),
    )
    rate: Annotated[
        Rate | None,
        PlainValidator(_check_rate),
        _RATE,
        InWords("a rate from 1 to 100000 in `/s`, `/min` or `/h`"),
    ] = Field(
        None,
        description="How many new sessions a source may begin, as 100/min (or /s, /h); more are"
        " refused in the same way.",
        json_schema_extra=none_is("none"),
    )
    burst: Annotated[Burst | None, none_from("auto"), AUTO] = Field(
        None,
        description="How many sessions of the rate may come at once; after these, one each time"
        " that the rate allows. `auto` is the count of the rate, so that a source that was quiet"
        " has all of it.",
        json_schema_extra=none_is("auto"),
    )
    prefix4: Bits4 = Field(
        32,
        description="How many leading bits of an IPv4 address make a source. All 32, since"
        " neighbours may be strangers.",
    )
    prefix6: Bits6 = Field(
        64,
        description="The same of an IPv6 address. 64, since the owner of one address of a /64 has"
        " all of them.",
    )
    exempt: PrefixList = Field(
        Prefixes(),
        description="Sources that these limits don't apply to, written as in `allow`: monitoring"
        " and relays of your own.",
    )


class Limits(Part):
    """How much a listener takes."""

    sessions: Annotated[Sessions | None, none_from("none"), COUNT_OR_NONE] = Field(
        None,
        description="How many sessions the listener may have at a time; more hear 421. The"
        " process's own limit is enough by default.",
        json_schema_extra=none_is("none"),
    )
    per_source: PerSource = PerSource()
    dry_run: Annotated[
        bool | list[DryRun],
        PlainValidator(_check_dry_run),
        _DRY_RUN,
        InWords(f"`true`, `false` or a list of {', '.join(f'`{word}`' for word in DryRun)}"),
    ] = Field(
        False,
        description="What keeps nobody out and is only counted, to see what it would do: a list of"
        f" {', '.join(DryRun)}; `true` is all of these.",
    )

    def tries(self, word: DryRun) -> bool:
        """Whether it is only counted."""
        return self.dry_run if isinstance(self.dry_run, bool) else word in self.dry_run


class Timeouts(Part):
    """How long a listener's sessions may wait, and for what."""

    connect: Limit = Field(
        3.0,
        description="How long one server may take to accept. It is beyond one lost SYN (1s), so"
        " that a lost packet isn't taken for a dead server.",
    )
    greeting: Limit = Field(
        15.0,
        description="How long one server may take to greet once it has accepted. After that"
        " another server is tried as well, and the first to greet has the session. postscreen,"
        " and servers that look clients up first, take some seconds.",
    )
    accept_total: Limit = Field(
        45.0,
        description="How long all attempts together may take, from the client's connect. It is"
        " half of the least time that senders wait for a greeting.",
    )
    idle_client: Limit = Field(
        330.0,
        description="How long the client may be silent after the server spoke last. It is beyond"
        " Postfix's own 300s, so that the server's 421 comes first; less than 300s is an error.",
    )
    idle_server: Limit = Field(
        660.0,
        description="How long the server may be silent after the client spoke last. RFC 5321,"
        " 4.5.3.2.6 allows 10 min for the answer to the final dot; a session that is cut before"
        " that is sent again, so less than 600s is an error.",
    )
    half_closed: Limit = Field(
        60.0,
        description="How long a session goes on after one side closed its direction, without"
        " anything from the other side.",
    )
    i_accept_duplicates: StrictBool = Field(
        False,
        description="Allows shorter idle limits, by which mail is sent twice.",
    )


class Listener(Part):
    """An address that clients connect to."""

    bind: Annotated[
        list[
            Annotated[
                Address, PlainValidator(parse_bind), TEXT, InWords("an IP address and a port")
            ]
        ],
        Field(min_length=1),
    ] = Field(
        description="The addresses with their ports. 0.0.0.0 is all of IPv4 of this machine, [::]"
        " of IPv6. Port 0, any that is free, is for tests: on loopback addresses alone."
    )
    pool: Annotated[str, InWords("the name of a pool")] = Field(
        description="The pool whose servers get its sessions."
    )
    protocol: Protocol = Field(
        Protocol.SMTP,
        description="What is spoken there. `smtp`: the server speaks first, in plain text;"
        " STARTTLS may follow (ports 25 and 587). `smtps`: the client begins with TLS, which is"
        " passed through (port 465). `tcp`: anything else.",
    )
    allow: PrefixList = Field(
        Prefixes(),
        description="Clients that are let in: prefixes, and absolute paths of files with a prefix"
        " a line (`#` and `;` begin comments). Files are read at a start or reload. Of all"
        " prefixes of `allow` and `deny` that hold a client, the longest counts.",
    )
    deny: PrefixList = Field(
        Prefixes(),
        description="Clients that aren't let in, written in the same way. Files of the Spamhaus"
        " DROP list can be named as they are.",
    )
    others: Annotated[Others | None, none_from("auto")] = Field(
        None,
        description="What becomes of clients that are in neither list. `auto` refuses them where"
        " `allow` stands alone, or where `deny` only makes holes in it. It admits them otherwise,"
        " as where `allow` only makes exceptions of `deny`. Where the lists tell neither, this"
        " has to be written.",
        json_schema_extra=none_is("auto"),
    )
    deny_code: Literal[554, 421] = Field(
        554,
        description="What denied clients hear by `refuse: reply`: 554 (not here) or 421 (not"
        " now). At 554 Exim returns the mail to its sender at once; Postfix tries again at"
        " either.",
    )
    refuse: Refuse = Field(
        Refuse.REPLY,
        description="How denied sources, and sources above the limits of `per_source`, are turned"
        " away. `reply` tells them why (`deny_code`, or 421 4.7.0), so that a sender that is"
        " meant by mistake can ask you. `reset` resets the connection. `drop` forgets it without"
        " a word. All other refusals are told, since those clients may come later.",
    )
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    max_age: Age = Field(
        0.0,
        description="An older session is cut as in a drain, so that senders with long sessions"
        " spread again; 0s for never.",
    )
    forwarding: Forwarding | None = Field(
        None,
        description="The path that its sessions take; by default `forwarding` of the process"
        " counts.",
    )

    @cached_property
    def others_in_effect(self) -> Others | None:
        """What becomes of clients in neither list; None where nothing tells, which is an error.

        Found out once: it is asked for at each change of a server's health.
        """
        return self.others or others_by_lists(self.allow, self.deny)

    @cached_property
    def lists_in_effect(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The prefixes of `allow` and of `deny`, none of them in both. Found out once, too."""
        return apart(self.allow, self.deny)
