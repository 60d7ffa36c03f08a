"""What concerns more than one key of a pair: its nodes, its addresses, and what tells a cut from a
dead peer.

Called by `rules`. Pure.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from itertools import chain

from mailweir.config.address import Address
from mailweir.config.finding import Finding, Path, did_you_mean, listed
from mailweir.config.ha import Floating, Ha, HaNode
from mailweir.config.listener import Listener
from mailweir.config.model import Admin
from mailweir.config.pool import Pool
from mailweir.config.units import format_duration
from mailweir.config.words import HaMode

_AT: Path = ("ha",)
# Words that may be lost, one after the other, before a node counts as dead.
_LEAST_LOST = 3
# How many leading bits links that share a network most likely have in common.
_LIKELY_NETWORK = {4: 24, 6: 64}

IP = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Around:
    """What a pair has to fit to, of the parts that are valid in themselves."""

    admin: Admin | None
    listeners: Mapping[str, Listener]
    pools: Mapping[str, Pool]
    # Whether these are all there are: else there may be more that use an address.
    complete: bool


def ha_findings(ha: Ha, around: Around) -> Iterator[Finding]:
    """What is wrong or odd about a pair."""
    yield from _node(ha)
    yield from _sockets(ha, around)
    yield from _floating(ha, around)
    yield from _uses(ha, around)
    if ha.mode is HaMode.NATIVE:
        yield from _needed(ha)
        yield from _links(ha)
        yield from _timers(ha)
        yield from _cuts(ha)


def _node(ha: Ha) -> Iterator[Finding]:
    if ha.node is not None and ha.nodes and ha.node not in ha.nodes:
        names = sorted(ha.nodes)
        yield Finding(
            (*_AT, "node"),
            f"there is no node `{ha.node}`, only {listed(names)}{did_you_mean(ha.node, names)}",
        )


def _sockets(ha: Ha, around: Around) -> Iterator[Finding]:
    admin = around.admin
    if admin and ha.socket == admin.socket:
        yield Finding(
            (*_AT, "socket"), f"{ha.socket} is `admin.socket`; each process needs one of its own"
        )
    http = ha.http
    if http is None or not http.port:
        return
    if admin and admin.http and http.overlaps(admin.http):
        is_it = "is" if http == admin.http else "can't be had beside"
        yield Finding(
            (*_AT, "http"),
            f"{http} {is_it} `admin.http`; each process needs one of its own",
        )


def _floating(ha: Ha, around: Around) -> Iterator[Finding]:
    """Addresses that can't move, since something else is there for good."""
    taken = _fixed(ha, around)
    for path, one in _each(ha):
        ip = one.address.ip
        if ip in taken:
            yield Finding((*path, "address"), f"{ip} is {taken[ip]}; write another address")
        taken.setdefault(ip, "there already")


def _each(ha: Ha) -> Iterator[tuple[Path, Floating]]:
    yield from (((*_AT, "virtual", index), one) for index, one in enumerate(ha.virtual))
    yield from (((*_AT, "source", index), one) for index, one in enumerate(ha.source))


def _fixed(ha: Ha, around: Around) -> dict[IP, str]:
    found: dict[IP, str] = {}
    for name, pool in around.pools.items():
        found |= {
            server.address.ip: f"that of server {name}/{server_name}, which doesn't move"
            for server_name, server in pool.servers.items()
        }
    found |= {ip: "a gateway" for ip in ha.gateway}
    if ha.witness:
        found[ha.witness.address.ip] = "the witness"
    for name, node in ha.nodes.items():
        found |= {
            address.ip: f"link `{link}` of node `{name}`, which stays where it is"
            for link, address in node.links.items()
        }
    return found


def _uses(ha: Ha, around: Around) -> Iterator[Finding]:
    """Addresses that move, and nothing uses them."""
    if not around.complete:
        return
    bound = {bind.ip for listener in around.listeners.values() for bind in listener.bind}
    versions = {ip.version for ip in bound if ip.is_unspecified}
    for index, one in enumerate(ha.virtual):
        ip = one.address.ip
        if ip not in bound and ip.version not in versions:
            yield Finding(
                (*_AT, "virtual", index, "address"),
                f"no listener binds {ip}: who connects there finds nobody",
                warning=True,
            )
    servers = chain.from_iterable(pool.servers.values() for pool in around.pools.values())
    dialled = {ip for server in servers for ip in server.source}
    for index, one in enumerate(ha.source):
        ip = one.address.ip
        if ip not in dialled:
            yield Finding(
                (*_AT, "source", index, "address"),
                f"no server is dialled from {ip}: write it as `source` of those that are to be",
                warning=True,
            )


def _needed(ha: Ha) -> Iterator[Finding]:
    if len(ha.nodes) != 2:
        yield Finding(
            (*_AT, "nodes"),
            f"a pair has two nodes, not {len(ha.nodes)}; where keepalived or pacemaker moves the"
            " addresses, say so: `mode: external`",
        )
    if not ha.virtual:
        yield Finding((*_AT, "virtual"), "there is no address for clients to connect to")
    if not ha.keys:
        yield Finding(
            (*_AT, "keys"),
            "without a key anybody could take the addresses: write"
            " `keys: {1: /etc/mailweir/ha.key}` and make that file by `head -c32 /dev/urandom`",
        )


def _links(ha: Ha) -> Iterator[Finding]:
    if len(ha.nodes) != 2:
        return
    (first_name, first), (name, node) = ha.nodes.items()
    at: Path = (*_AT, "nodes", name, "links")
    missing = sorted(first.links.keys() ^ node.links.keys())
    if missing:
        yield Finding(
            at,
            f"both nodes need the same links; one alone has {listed(missing)}",
        )
    for link, here in node.links.items():
        there = first.links.get(link, here)
        if here.ip.version != there.ip.version:
            yield Finding(
                (*at, link),
                f"{here} can't reach {there} of `{first_name}`: not the same IP version",
            )
    yield from _link_addresses(ha)
    yield from _independence(first)


def _link_addresses(ha: Ha) -> Iterator[Finding]:
    # On one machine, for a trial, nodes differ by their ports.
    taken: dict[IP | Address, str] = {}
    if ha.witness:
        taken[_place(ha.witness.address)] = "the witness's"
    for name, node in ha.nodes.items():
        for link, address in node.links.items():
            place = _place(address)
            if place in taken:
                yield Finding(
                    (*_AT, "nodes", name, "links", link),
                    f"{place} is {taken[place]} already; each link of each node needs its own",
                )
            taken.setdefault(place, f"that of link `{link}` of node `{name}`")


def _place(address: Address) -> IP | Address:
    return address if address.ip.is_loopback else address.ip


def _independence(node: HaNode) -> Iterator[Finding]:
    at: Path = (*_AT, "nodes")
    if len(node.links) == 1:
        yield Finding(
            at,
            "there is one link: with it cut each node takes the other for dead; add a second one,"
            " over another network",
            warning=True,
        )
    networks: dict[IPv4Network | IPv6Network, str] = {}
    for link, address in node.links.items():
        bits = _LIKELY_NETWORK[address.ip.version]
        network = ip_network((address.ip, bits), strict=False)
        if network in networks:
            yield Finding(
                at,
                f"links `{networks[network]}` and `{link}` are both in {network}: what cuts one"
                " most likely cuts the other; use another network for one of them",
                warning=True,
            )
        networks.setdefault(network, link)


def _timers(ha: Ha) -> Iterator[Finding]:
    timers = ha.timers
    if timers.dead < _LEAST_LOST * timers.interval:
        # At the key that was written; the other one is at its default.
        key = "dead" if "dead" in timers.model_fields_set else "interval"
        yield Finding(
            (*_AT, "timers", key),
            f"`dead` ({format_duration(timers.dead)}) must be at least {_LEAST_LOST} times"
            f" `interval` ({format_duration(timers.interval)}), or a lost packet or two move the"
            " addresses",
        )


def _cuts(ha: Ha) -> Iterator[Finding]:
    if not ha.gateway and ha.witness is None:
        yield Finding(
            _AT,
            "nothing tells a cut cable from a dead peer: name a router of your network as"
            " `gateway`, or a third machine as `witness`",
            warning=True,
        )
