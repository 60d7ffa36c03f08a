"""A pool of the configuration: servers that share sessions. A part of `model`."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, StrictBool, StrictInt

from mailweir.config.address import Address, parse_server
from mailweir.config.check_keys import Check, FurtherCheck
from mailweir.config.kinds import (
    COUNT_OR_NONE,
    HOUR,
    TEXT,
    Bits4,
    Bits6,
    Duration,
    InWords,
    Name,
    Part,
    Percentage,
    Sessions,
    Source,
    between,
    none_from,
    none_is,
)
from mailweir.config.units import Share, parse_share
from mailweir.config.words import Balance, OnDown, Proxy, StickyBy

MAX_WEIGHT = 1000


def _not_none(share: Share) -> Share:
    if not share:
        raise ValueError("must be 1% or more; for never write `outlier: none`")
    return share


def _from_short_form(value: object) -> object:
    return {"address": value} if isinstance(value, str) else value


class Server(Part):
    """A mail server of a pool. The short form is its address alone."""

    address: Annotated[
        Address, PlainValidator(parse_server), TEXT, InWords("an IP address and a port")
    ] = Field(description="Where it is reached: an IP address with a port.")
    weight: Annotated[StrictInt, Field(ge=0, le=MAX_WEIGHT)] = Field(
        100,
        description="Its share of the pool's sessions, by the sum of all weights; 0 takes no new"
        " sessions. 100 leaves room for finer and for larger shares.",
    )
    max_sessions: Annotated[Sessions | None, none_from("none"), COUNT_OR_NONE] = Field(
        None,
        description="How many sessions it may have at a time; more go to other servers, or hear"
        " 421.",
        json_schema_extra=none_is("none"),
    )
    proxy: Proxy = Field(
        Proxy.OFF,
        description="The PROXY header that tells the server who the client is. It is off, since a"
        " server that doesn't expect the header takes it for a client's nonsense.",
    )
    source: list[Source] = Field(
        [],
        description="Addresses that the server is dialled from in turn, each with ports of its"
        " own. By default it is the address that the route gives.",
    )
    backup: StrictBool = Field(
        False, description="Whether it is used only while no other server of the pool can be."
    )


class HashKey(Part):
    """What `source_hash` and `maglev` choose a server by. Of no use with others."""

    prefix4: Bits4 = Field(
        32,
        description="How many leading bits of a client's IPv4 address count: all, each address by"
        " itself.",
    )
    prefix6: Bits6 = Field(
        64,
        description="The same of an IPv6 address. 64, since the owner of one address of a /64 has"
        " all of them.",
    )
    seed: Annotated[str, Field(max_length=64)] = Field(
        "",
        description="Every balancer with the same seed and names of servers makes the same choice;"
        " another seed makes another one.",
    )


class Sticky(Part):
    """How clients come back to the server that they were at."""

    by: StickyBy = Field(StickyBy.SOURCE, description="What is remembered: the client's address.")
    prefix4: Bits4 = Field(
        24,
        description="How many leading bits of an IPv4 address count: large senders come from all"
        " of a /24, and greylisting looks at it too.",
    )
    prefix6: Bits6 = Field(64, description="The same of an IPv6 address.")
    ttl: Annotated[Duration, between(1.0, 30 * 24 * HOUR)] = Field(
        14400.0,
        description="How long a source is remembered after its last session. Senders try again"
        " for hours.",
    )


class Queue(Part):
    """Where sessions wait while every server is full."""

    length: Annotated[StrictInt, Field(ge=1, le=100_000)] = Field(
        200, description="How many sessions may wait; more hear 421. Each has a descriptor."
    )
    wait: Annotated[Duration, between(0.1, 240.0)] = Field(
        20.0,
        description="How long each may wait; then it hears 421. Senders wait 5 min for a"
        " greeting, some only 30s.",
    )


class Outlier(Part):
    """When a server that passes its checks and yet spoils sessions gets none for a while."""

    consecutive: Annotated[StrictInt, Field(ge=2, le=1000)] = Field(
        5,
        description="How many spoiled sessions in a row are enough, as long as the other servers"
        " spoil hardly any. Fewer may be chance. A server is ejected for its share of spoiled"
        " sessions too.",
    )
    max_ejected: Annotated[
        Percentage, AfterValidator(_not_none), InWords("a share from 1% to 100%")
    ] = Field(
        parse_share("50%"),
        description="The largest share of the servers in use that may be ejected. One may always"
        " be; never the last one, and none by which the pool would come into panic. Half of a"
        " farm can carry it for a while.",
    )
    base: Annotated[Duration, between(1.0, HOUR)] = Field(
        30.0,
        description="How long a server is ejected the first time; twice as long the second time,"
        " and so on to ten times that. It comes back once a check passes after that. Senders that"
        " were turned away don't come back sooner than in minutes.",
    )


class Pool(Part):
    """Servers that share sessions."""

    balance: Balance = Field(
        Balance.LEAST_CONN,
        description="How a server is chosen. `least_conn`: the fewest sessions for its weight,"
        " which evens out that sessions of mail differ in length by orders of magnitude."
        " `least_load`: the least load. `round_robin`: each in turn. `random_two`: the better of"
        " two at random, for several balancers. `source_hash`, `maglev`: by the client's address.",
    )
    hash_key: HashKey = HashKey()
    sticky: Annotated[Sticky | None, none_from("none")] = Field(
        None,
        description="Sends a client to the server that it was at before, while that is up and has"
        " room: for greylisting that servers don't share. Without, sessions spread better.",
        json_schema_extra=none_is("none"),
    )
    slow_start: Annotated[Duration, between(0.0, HOUR)] = Field(
        60.0,
        description="How long a server that comes into use takes to its full share, so that its"
        " caches fill first. Servers that come together don't wait for each other; 0s for at"
        " once.",
    )
    panic: Percentage = Field(
        parse_share("50%"),
        description="Where less than this share of the servers is up, those that are down are"
        " tried too: it is more likely that the checks are wrong, and the few that are left would"
        " be flooded. Backups, servers of weight 0 and servers that operators took out don't"
        " count; 0% for never.",
    )
    on_down: OnDown = Field(
        OnDown.LEAVE,
        description="What becomes of the sessions of a server that checks call down. `leave`: they"
        " go on, since a check may be wrong, and a message that is cut off may come twice; `end`:"
        " they end at once. In a panic all stay.",
    )
    outlier: Annotated[Outlier | None, none_from("none")] = Field(
        Outlier(),
        description="Gives a server no new sessions for a while that passes its checks and yet"
        " spoils them: it can't be connected to, refuses, is late, or leaves in the middle of a"
        " message. Only what the others of the pool don't do counts; `none` for never.",
        json_schema_extra=none_is("none"),
    )
    queue: Annotated[Queue | None, none_from("none")] = Field(
        None,
        description="Has sessions wait while every server has its `max_sessions`. Without, they"
        " hear 421 at once, and senders come back later.",
        json_schema_extra=none_is("none"),
    )
    overflow: list[Name] = Field(
        [],
        description="Pools that get its sessions where it has no server for them; the first that"
        " has a server counts. While every server is full, sessions go there one at a time. Where"
        " no server is up, all go there; they come back when a server has been up for 10s, over"
        " `slow_start`.",
    )
    servers: Annotated[
        dict[Name, Annotated[Server, BeforeValidator(_from_short_form)]], Field(min_length=1)
    ] = Field(description="Each under a name of your own. The short form is `mx1: 10.0.2.11:25`.")
    check: Check = Check()
    more_checks: dict[Name, FurtherCheck] = Field(
        {},
        description="Further checks, each under a name of your own and at its own pace, as"
        " `certificate: {kind: starttls, decides: alarm, every: 1h}`. They have the keys of"
        " `check`, `kind` has to be there, and `decides` says what comes of it.",
    )
