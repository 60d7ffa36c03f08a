"""A pair of balancers: what can be said of it, what is wrong with it, when two nodes agree."""

from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest

from mailweir.config.address import Address
from mailweir.config.ha import Ha
from mailweir.config.load import parse
from mailweir.config.words import HaMode
from mailweir.errors import ConfigError
from unit.fakes import config

A_FARM = """\
listeners: {mx: {bind: [192.0.2.10:25], pool: farm}}
pools: {farm: {servers: {a: {address: 10.0.0.1:25, proxy: v2, source: [10.0.0.253]}}}}
"""
# One key a line, for tests to replace. The first of them is line 3.
PAIR = {
    "node": "a",
    "mode": "native",
    "nodes": "{a: {links: {lan: '192.0.2.1:5405', cross: '198.51.100.1:5405'}},"
    " b: {links: {lan: '192.0.2.2:5405', cross: '198.51.100.2:5405'}, priority: 90}}",
    "virtual": "[{address: 192.0.2.10/24, dev: eth0}]",
    "source": "[{address: 10.0.0.253/24, dev: eth1}]",
    "keys": "{1: /etc/mailweir/ha.key}",
    "timers": "{interval: 200ms, dead: 2s, lease: 3s}",
    "gateway": "[192.0.2.254]",
    "witness": "{address: '203.0.113.9:5405'}",
}


def text(farm: str | None = A_FARM, **keys: str | None) -> str:
    """A file with a pair, with other values for some of its keys; None takes one away."""
    lines = [f"  {key}: {value}\n" for key, value in {**PAIR, **keys}.items() if value is not None]
    return f"{farm}ha:\n{''.join(lines)}"


def pair(**keys: str | None) -> Ha:
    found = config(text(**keys)).ha
    assert found
    return found


def told(text: str) -> list[str]:
    """What is told of a file: `E` for a problem and `W` for a warning, with path and message."""
    try:
        problems, warnings = [], list(parse(text, "f").warnings)
    except ConfigError as error:
        problems, warnings = list(error.problems), list(error.warnings)
    found = [*(("E", one) for one in problems), *(("W", one) for one in warnings)]
    assert all(one.line >= 1 and one.column >= 1 for _, one in found)
    return [f"{kind} {one.path}: {one.message}" for kind, one in found]


def test_a_pair_as_it_is_written() -> None:
    assert told(text()) == []
    ha = pair()
    assert (ha.node, ha.mode, ha.cluster) == ("a", HaMode.NATIVE, "mailweir")
    assert ha.nodes["b"].links["lan"] == Address(ip_address("192.0.2.2"), 5405)
    assert (ha.nodes["a"].priority, ha.nodes["b"].priority) == (100, 90)
    assert (ha.virtual[0].address, ha.virtual[0].dev) == (ip_interface("192.0.2.10/24"), "eth0")
    assert ha.keys == {1: Path("/etc/mailweir/ha.key")}
    assert (ha.timers.interval, ha.timers.dead, ha.timers.lease) == (0.2, 2.0, 3.0)
    assert ha.gateway == [ip_address("192.0.2.254")]
    assert ha.witness
    assert not ha.witness.strict
    assert (ha.preempt, ha.preempt_delay, ha.fault_hold, ha.run_grace) == (False, 60.0, 10.0, 5.0)
    assert (ha.fence, str(ha.socket), str(ha.http)) == (
        [],
        "/run/mailweir/ha.sock",
        "127.0.0.1:8026",
    )


def test_no_pair_is_the_default() -> None:
    assert config().ha is None
    assert config(f"{A_FARM}ha: none\n").ha is None
    assert told(f"{A_FARM}ha:\n") == ["E ha: has no value"]


def test_keepalived_needs_nothing_said() -> None:
    assert told(f"{A_FARM}ha: {{mode: external}}\n") == []


@pytest.mark.parametrize(("word", "times"), [("fast", (0.1, 0.5, 3.0)), ("vm", (1.0, 4.0, 5.0))])
def test_timers_have_names(word: str, times: tuple[float, float, float]) -> None:
    timers = pair(timers=word).timers
    assert (timers.interval, timers.dead, timers.lease) == times
    assert told(text(timers=word)) == []


@pytest.mark.parametrize(
    ("node", "hostname", "name"),
    [
        ("b", "a", "b"),
        (None, "a", "a"),
        (None, "b.example.org", "b"),
        ("auto", "b.example.org", "b"),
        (None, "other.example.org", None),
    ],
)
def test_which_node_this_is(node: str | None, hostname: str, name: str | None) -> None:
    assert pair(node=node).own_name(hostname) == name


_ONE_LINK = "{a: {links: {lan: '192.0.2.1:1'}}, b: {links: {lan: '192.0.2.2:1'}}}"
_EXAMPLE = "such as 192.0.2.10/24 or 2001:db8::10/64"


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        # who is who
        ({"node": "c"}, ["E ha.node: there is no node `c`, only a, b"]),
        (
            {"nodes": "{lb1: {links: {l: '192.0.2.1:1'}}}", "node": "lb2"},
            [
                "E ha.node: there is no node `lb2`, only lb1; did you mean `lb1`?",
                "E ha.nodes: a pair has two nodes, not 1; where keepalived or pacemaker moves the"
                " addresses, say so: `mode: external`",
            ],
        ),
        # links
        (
            {"nodes": "{a: {links: {x: '192.0.2.1:1', y: '198.51.100.1:1'}},"
             " b: {links: {x: '192.0.2.2:1', z: '198.51.100.2:1'}}}"},
            ["E ha.nodes.b.links: both nodes need the same links; one alone has y, z"],
        ),
        (
            {"nodes": "{a: {links: {x: '192.0.2.1:1', y: '198.51.100.1:1'}},"
             " b: {links: {x: '[2001:db8::2]:1', y: '198.51.100.2:1'}}}"},
            ["E ha.nodes.b.links.x: [2001:db8::2]:1 can't reach 192.0.2.1:1 of `a`: not the same"
             " IP version"],
        ),
        (
            {"nodes": "{a: {links: {x: '192.0.2.1:1', y: '198.51.100.1:1'}},"
             " b: {links: {x: '192.0.2.2:1', y: '198.51.100.1:2'}}}"},
            ["E ha.nodes.b.links.y: 198.51.100.1 is that of link `y` of node `a` already; each link"
             " of each node needs its own"],
        ),
        (
            {"witness": "{address: '192.0.2.2:1'}"},
            ["E ha.nodes.b.links.lan: 192.0.2.2 is the witness's already; each link of each node"
             " needs its own"],
        ),
        (
            {"nodes": _ONE_LINK},
            ["W ha.nodes: there is one link: with it cut each node takes the other for dead; add a"
             " second one, over another network"],
        ),
        (
            {"nodes": "{a: {links: {x: '192.0.2.1:1', y: '192.0.2.3:1'}},"
             " b: {links: {x: '192.0.2.2:1', y: '192.0.2.4:1'}}}"},
            ["W ha.nodes: links `x` and `y` are both in 192.0.2.0/24: what cuts one most likely"
             " cuts the other; use another network for one of them"],
        ),
        (
            {"nodes": "{a: {links: {x: '127.0.0.1:1', y: '[::1]:1'}},"
             " b: {links: {x: '127.0.0.1:2', y: '[::1]:2'}}}"},
            [],
        ),
        # addresses that move
        ({"virtual": "[]"}, ["E ha.virtual: there is no address for clients to connect to"]),
        (
            {"virtual": "[{address: 192.0.2.10/24, dev: eth0}, {address: 192.0.2.1/24, dev: e}]"},
            ["E ha.virtual.1.address: 192.0.2.1 is link `lan` of node `a`, which stays where it is;"
             " write another address",
             "W ha.virtual.1.address: no listener binds 192.0.2.1: who connects there finds"
             " nobody"],
        ),
        (
            {"source": "[{address: 10.0.0.253/24, dev: e}, {address: 10.0.0.1/24, dev: e}]"},
            ["E ha.source.1.address: 10.0.0.1 is that of server farm/a, which doesn't move; write"
             " another address",
             "W ha.source.1.address: no server is dialled from 10.0.0.1: write it as `source` of"
             " those that are to be"],
        ),
        (
            {"virtual": "[{address: 192.0.2.10/24, dev: e}, {address: 192.0.2.10/32, dev: f}]"},
            ["E ha.virtual.1.address: 192.0.2.10 is there already; write another address"],
        ),
        (
            {"gateway": "[192.0.2.10]"},
            ["E ha.virtual.0.address: 192.0.2.10 is a gateway; write another address"],
        ),
        (
            {"witness": "{address: '192.0.2.10:1'}"},
            ["E ha.virtual.0.address: 192.0.2.10 is the witness; write another address"],
        ),
        (
            {"source": "[{address: 10.0.0.7/24, dev: eth1}]"},
            ["W ha.source.0.address: no server is dialled from 10.0.0.7: write it as `source` of"
             " those that are to be"],
        ),
        # what keeps others out, and what tells a cut
        (
            {"keys": "{}"},
            ["E ha.keys: without a key anybody could take the addresses: write `keys: {1:"
             " /etc/mailweir/ha.key}` and make that file by `head -c32 /dev/urandom`"],
        ),
        (
            {"gateway": None, "witness": None},
            ["W ha: nothing tells a cut cable from a dead peer: name a router of your network as"
             " `gateway`, or a third machine as `witness`"],
        ),
        ({"gateway": None}, []),
        ({"witness": "none"}, []),
        # times
        (
            {"timers": "{interval: 1s}"},
            ["E ha.timers.interval: `dead` (2s) must be at least 3 times `interval` (1s), or a lost"
             " packet or two move the addresses"],
        ),
        (
            {"timers": "{dead: 500ms}"},
            ["E ha.timers.dead: `dead` (500ms) must be at least 3 times `interval` (200ms), or a"
             " lost packet or two move the addresses"],
        ),
        # of the process
        (
            {"socket": "/run/mailweir/admin.sock"},
            ["E ha.socket: /run/mailweir/admin.sock is `admin.socket`; each process needs one of"
             " its own"],
        ),
        (
            {"http": "127.0.0.1:8025"},
            ["E ha.http: 127.0.0.1:8025 is `admin.http`; each process needs one of its own"],
        ),
        ({"http": "192.0.2.10:25"}, ["E ha.http: 192.0.2.10:25 is bound by listener `mx` already"]),
        ({"http": "off"}, []),
    ],
    ids=str,
)  # fmt: skip
def test_rule(keys: dict[str, str | None], lines: list[str]) -> None:
    assert told(text(**keys)) == lines


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        ({"node": ""}, ["E ha.node: has no value"]),
        ({"mode": "vrrp"}, ["E ha.mode: must be one of native, external; not 'vrrp'"]),
        ({"timers": "slow"},
         ["E ha.timers: must be fast or vm, or times of your own, not 'slow'"]),
        ({"timers": "{lease: 2500ms}"},
         ["E ha.timers.lease: must be whole seconds, as the kernel counts them, not 2500ms"]),
        ({"timers": "{lease: 1s}"}, ["E ha.timers.lease: must be from 2s to 1m, not 1s"]),
        ({"timers": "{interval: 2s, dead: 9s}"},
         ["E ha.timers.interval: must be from 50ms to 1s, not 2s"]),
        ({"timers": "{intervall: 1s}"},
         ["E ha.timers.intervall: unknown key; did you mean `interval`?"]),
        ({"virtual": "[{address: 192.0.2.10, dev: eth0}]"},
         [f"E ha.virtual.0.address: must be an address with its network's length, {_EXAMPLE}, not"
          " '192.0.2.10'"]),
        ({"virtual": "[{address: 192.0.2.10/33, dev: eth0}]"},
         [f"E ha.virtual.0.address: must be an address with its network's length, {_EXAMPLE}, not"
          " '192.0.2.10/33'"]),
        ({"virtual": "[{address: 192.0.2.0/24, dev: eth0}]"},
         ["E ha.virtual.0.address: 192.0.2.0 is no machine's: it stands for all of 192.0.2.0/24"]),
        ({"virtual": "[{address: 192.0.2.255/24, dev: eth0}]"},
         ["E ha.virtual.0.address: 192.0.2.255 is no machine's: it stands for all of"
          " 192.0.2.0/24"]),
        ({"virtual": "[{address: 127.0.0.5/8, dev: lo}]"},
         ["E ha.virtual.0.address: 127.0.0.5 can't be one machine's at a time"]),
        ({"virtual": "[{address: 192.0.2.10/24, dev: a/b}]"},
         ["E ha.virtual.0.dev: must be a network device such as eth0, not 'a/b'"]),
        ({"virtual": "[{address: 192.0.2.10/24}]"},
         ["E ha.virtual.0.dev: is missing; it has no default"]),
        ({"virtual": "[{address: 192.0.2.10/24, dve: eth0, dev: eth0}]"},
         ["E ha.virtual.0.dve: unknown key; did you mean `dev`?"]),
        ({"keys": "{0: /k}"},
         ["E ha.keys.0: a key's number is from 1 to 65535, not '0'"]),
        ({"keys": "{one: /k}"},
         ["E ha.keys.one: a key's number is from 1 to 65535, not 'one'"]),
        ({"keys": "{1: k}"},
         ["E ha.keys.1: must be an absolute path, one that begins with /"]),
        ({"gateway": "[192.0.2.254:1]"},
         ["E ha.gateway.0: must be an IP address without a port, not '192.0.2.254:1'"]),
        ({"gateway": "['::']"}, ["E ha.gateway.0: :: isn't the address of a gateway"]),
        ({"nodes": "{a: {}}"}, ["E ha.nodes.a.links: is missing; it has no default"]),
        ({"nodes": "{a: {links: {}}}"}, ["E ha.nodes.a.links: must not be empty"]),
        ({"nodes": "{a: {links: {x: '192.0.2.1:0'}}}"},
         ["E ha.nodes.a.links.x: a server needs a port from 1 to 65535, for example 10.0.0.1:25 or"
          " [2001:db8::1]:25"]),
        ({"nodes": "{a: {links: {x: '192.0.2.1:1'}, priority: 255}}"},
         ["E ha.nodes.a.priority: must be at most 254, not 255"]),
        ({"fence": "[reboot]"},
         ["E ha.fence: must begin with the absolute path of a command"]),
        ({"witness": "{strict: true}"}, ["E ha.witness.address: is missing; it has no default"]),
    ],
    ids=str,
)  # fmt: skip
def test_value(keys: dict[str, str | None], lines: list[str]) -> None:
    assert told(text(**keys)) == lines


def test_problems_elsewhere_hide_none_of_a_pair() -> None:
    found = told(text(A_FARM.replace("pool: farm", "pool: frm"), node="c"))
    assert [line.partition(": ")[0] for line in found] == [
        "E listeners.mx.pool",
        "E ha.node",
        "W pools.farm",
    ]
    found = told(text(A_FARM.replace("proxy: v2", "weight: many"), node="c"))
    assert [line.partition(": ")[0] for line in found] == [
        "E pools.farm.servers.a.weight",
        "E ha.node",
    ]
