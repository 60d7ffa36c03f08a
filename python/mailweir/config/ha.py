"""A pair of balancers, and the addresses that one of them has at a time. A part of `model`.

`ha_rules` adds what concerns more than one key. Read by `mailweir ha`; `mailweir run` passes it
over.
"""

import re
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    StrictBool,
    StrictInt,
    WithJsonSchema,
)

from mailweir.config.address import Address, parse_bind, parse_server
from mailweir.config.kinds import (
    HOUR,
    TEXT,
    AbsolutePath,
    Duration,
    Http,
    InWords,
    Name,
    Part,
    SocketPath,
    between,
    none_from,
    none_is,
    parse_ip,
)
from mailweir.config.units import format_duration
from mailweir.config.words import HaMode

# Sets of timers that have a name of their own.
TIMERS = {
    "fast": {"interval": "100ms", "dead": "500ms", "lease": "3s"},
    "vm": {"interval": "1s", "dead": "4s", "lease": "5s"},
}
# Linux: IFNAMSIZ with the ending zero, and what dev_valid_name() has against a name.
_DEVICE = re.compile(r"[^\s/:\0]{1,15}")
_KEY_ID = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_LONGEST_INTERFACE = 64
# Each costs a question or an announcement now and then; no pair needs so many.
_MOST_FLOATING, _MOST_GATEWAYS, _MOST_KEYS, _MOST_LINKS = 100, 16, 16, 8


def _check_floating(value: object) -> IPv4Interface | IPv6Interface:
    example = "such as 192.0.2.10/24 or 2001:db8::10/64"
    if not isinstance(value, str) or len(value) > _LONGEST_INTERFACE or "/" not in value:
        raise ValueError(f"must be an address with its network's length, {example}, not {value!r}")
    try:
        found = ip_interface(value)
    except ValueError:
        raise ValueError(
            f"must be an address with its network's length, {example}, not {value!r}"
        ) from None
    ip, net = found.ip, found.network
    if ip.is_unspecified or ip.is_multicast or ip.is_loopback:
        raise ValueError(f"{ip} can't be one machine's at a time")
    if isinstance(ip, IPv6Address) and (ip.ipv4_mapped is not None or ip.scope_id is not None):
        raise ValueError(f"must be an address with its network's length, {example}, not {value!r}")
    ends = (net.network_address, net.broadcast_address) if ip.version == 4 else (net[0],)
    if net.num_addresses > 2 and ip in ends:
        raise ValueError(f"{ip} is no machine's: it stands for all of {net}")
    return found


def _check_gateway(value: object) -> IPv4Address | IPv6Address:
    ip = parse_ip(value)
    if ip.is_unspecified or ip.is_multicast or ip.is_loopback:
        raise ValueError(f"{ip} isn't the address of a gateway")
    return ip


def _check_device(name: str) -> str:
    if _DEVICE.fullmatch(name) is None or name in (".", ".."):
        raise ValueError(f"must be a network device such as eth0, not {name!r}")
    return name


def _check_key_id(value: object) -> int:
    if isinstance(value, str) and _KEY_ID.fullmatch(value) and int(value) <= 65535:
        return int(value)
    raise ValueError(f"a key's number is from 1 to 65535, not {value!r}")


def _check_lease(seconds: float) -> float:
    if seconds % 1:
        raise ValueError(
            f"must be whole seconds, as the kernel counts them, not {format_duration(seconds)}"
        )
    return seconds


def _check_command(command: list[str]) -> list[str]:
    if command and not command[0].startswith("/"):
        raise ValueError("must begin with the absolute path of a command")
    return command


def _from_word(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value not in TIMERS:
        raise ValueError(f"must be {' or '.join(TIMERS)}, or times of your own, not {value!r}")
    return TIMERS[value]


class Floating(Part):
    """An address that moves with its role."""

    address: Annotated[
        IPv4Interface | IPv6Interface,
        PlainValidator(_check_floating),
        TEXT,
        InWords("an IP address with a length, as 192.0.2.10/24"),
    ] = Field(description="With the length of its network; 32 or 128 where it is in none.")
    dev: Annotated[str, AfterValidator(_check_device), InWords("a network device")] = Field(
        description="The network device that has it, on both nodes."
    )


class HaNode(Part):
    """One of the two balancers."""

    links: Annotated[
        dict[
            Name,
            Annotated[
                Address, PlainValidator(parse_server), TEXT, InWords("an IP address and a UDP port")
            ],
        ],
        Field(min_length=1, max_length=_MOST_LINKS),
    ] = Field(
        description="Its own addresses, with UDP ports, at which the other node reaches it; each"
        " under a name that both nodes have. Two in different networks are better than one: a"
        " node is dead only when it is silent at all of them."
    )
    priority: Annotated[StrictInt, Field(ge=1, le=254)] = Field(
        100,
        description="Of two nodes that are equally well, the one with the higher priority has the"
        " addresses.",
    )


class Timers(Part):
    """How soon a silent node is taken for dead."""

    interval: Annotated[Duration, between(0.05, 1.0)] = Field(
        0.2, description="The time between two words to the other node."
    )
    dead: Annotated[Duration, between(0.15, 60.0)] = Field(
        2.0, description="How long a node is silent at all links before it counts as dead."
    )
    lease: Annotated[
        Duration,
        between(2.0, 60.0),
        AfterValidator(_check_lease),
        InWords("whole seconds from 2s to 60s"),
    ] = Field(
        3.0,
        description="The kernel takes the addresses away when `mailweir ha` hasn't renewed them for"
        " so long, whatever became of it. In whole seconds, as the kernel counts them.",
    )


class Witness(Part):
    """A third machine that says whether a node can still be reached: `mailweir ha witness`."""

    address: Annotated[
        Address, PlainValidator(parse_server), TEXT, InWords("an IP address and a UDP port")
    ] = Field(description="Where it listens: an IP address with a UDP port.")
    strict: StrictBool = Field(
        False,
        description="Nobody has the addresses without two of the three. Then no cut can make two"
        " active nodes, but with the witness gone and a node down nobody serves.",
    )


class Ha(Part):
    """A pair."""

    node: Annotated[Name | None, none_from("auto")] = Field(
        None,
        description="Which of `nodes` this one is; `auto` is the one that is called by this"
        " machine's host name, or the first label of it.",
        json_schema_extra=none_is("auto"),
    )
    mode: HaMode = Field(
        HaMode.NATIVE,
        description="`native`: the nodes agree by themselves; `external`: keepalived or pacemaker"
        " moves the addresses and says so by `mailweir ha notify`.",
    )
    cluster: Name = Field(
        "mailweir", description="Pairs in one network differ by it, and by their keys."
    )
    nodes: dict[Name, HaNode] = Field(
        {}, description="The two balancers, each under a name of your own."
    )
    virtual: list[Floating] = Field(
        [], max_length=_MOST_FLOATING, description="What clients connect to."
    )
    source: list[Floating] = Field(
        [],
        max_length=_MOST_FLOATING,
        description="What servers are dialled from, as `source` of the pools says. They move"
        " together with `virtual`.",
    )
    keys: dict[
        Annotated[
            int,
            PlainValidator(_check_key_id),
            WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]{0,4}$"}),
            InWords("a number from 1 to 65535"),
        ],
        AbsolutePath,
    ] = Field(
        {},
        max_length=_MOST_KEYS,
        description="Files with secrets of 32 bytes (or 64 hex digits) that the nodes know each"
        " other by, under numbers. The highest that both have is used, the others are understood,"
        " so that a new one can be brought to one node after the other. To make one: `head -c32"
        " /dev/urandom >FILE; chmod 400 FILE`.",
    )
    timers: Annotated[Timers, BeforeValidator(_from_word)] = Field(
        Timers(),
        description="How soon a silent node is taken for dead; `timers: fast` stands for 100ms,"
        " 500ms and 3s, `timers: vm`, for machines that stand still now and then, for 1s, 4s and"
        " 5s.",
    )
    gateway: list[
        Annotated[
            IPv4Address | IPv6Address,
            PlainValidator(_check_gateway),
            TEXT,
            InWords("an IP address"),
        ]
    ] = Field(
        [],
        max_length=_MOST_GATEWAYS,
        description="Routers in the networks of this machine. A node that none of them answers"
        " is cut off itself, and takes nothing over.",
    )
    witness: Annotated[Witness | None, none_from("none")] = Field(
        None,
        description="A third machine that tells a cut-off node from one whose peer is dead.",
        json_schema_extra=none_is("none"),
    )
    preempt: StrictBool = Field(
        False,
        description="Whether the node with the higher priority takes the addresses back. Moving"
        " them breaks every session, so they stay where they are.",
    )
    preempt_delay: Annotated[Duration, between(0.0, HOUR)] = Field(
        60.0, description="How long it is well before it does so."
    )
    fault_hold: Annotated[Duration, between(0.0, HOUR)] = Field(
        10.0,
        description="A node that got the addresses keeps them for so long, so that a fault that"
        " comes and goes moves nothing. Only a fault that leaves clients without a server moves"
        " them sooner.",
    )
    run_grace: Annotated[Duration, between(0.0, 300.0)] = Field(
        5.0,
        description="How long `mailweir run` may be away, for a restart, before the addresses go to"
        " the other node.",
    )
    handover: Annotated[Duration, between(0.0, 300.0)] = Field(
        10.0,
        description="How long a `mailweir run` that was told to end may take for its sessions,"
        " and to be back, before the addresses go to the other node. Clients that come meanwhile"
        " wait, where systemd keeps the listening sockets. Sessions that are left by then are"
        " lost.",
    )
    fence: Annotated[
        list[str],
        AfterValidator(_check_command),
        InWords("a list: the absolute path of a command, and its arguments"),
    ] = Field(
        [],
        description="A command with its arguments that has to succeed before the addresses are"
        " taken from a silent node: one that cuts its power, say.",
    )
    socket: SocketPath = Field(
        Path("/run/mailweir/ha.sock"), description="Where `mailweir ha` asks its process."
    )
    http: Http = Field(
        parse_bind("127.0.0.1:8026"),
        description="/metrics and /healthz of that process, read-only; `off` for none.",
        json_schema_extra=none_is("off"),
    )

    def own_name(self, hostname: str) -> str | None:
        """Which of `nodes` this machine is; None where neither `node` nor its name says it."""
        names = (self.node, hostname, hostname.partition(".")[0])
        return next((name for name in names if name in self.nodes), None)
