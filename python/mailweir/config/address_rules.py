"""What concerns addresses, wherever they stand: who listens where, who is dialled, what overlaps,
what this machine has. Called by `rules`. Pure.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from mailweir.config.address import Address
from mailweir.config.check_keys import Check
from mailweir.config.finding import Finding, Path
from mailweir.config.ha import Ha
from mailweir.config.listener import Listener
from mailweir.config.machine import ThisMachine
from mailweir.config.model import Admin
from mailweir.config.pool import Pool, Server
from mailweir.config.words import Proxy

IP = IPv4Address | IPv6Address

_ANYWHERE: Mapping[int, IP] = {4: IPv4Address(0), 6: IPv6Address(0)}
# RFC 1122, 3.2.1.3 and RFC 6890: no host is there, but where somebody set his network up for it.
_RESERVED = (IPv4Network("0.0.0.0/8"), IPv4Network("240.0.0.0/4"))


@dataclass(frozen=True, slots=True)
class Everywhere:
    """All that has addresses, of the parts that are valid in themselves."""

    admin: Admin | None
    listeners: Mapping[str, Listener]
    pools: Mapping[str, Pool]
    ha: Ha | None
    machine: ThisMachine | None

    def has(self, ip: IP) -> bool:
        """Whether an address is known to be this machine's."""
        return ip.is_loopback or (self.machine is not None and self.machine.has(ip))

    def binds(self) -> Iterator[tuple[Path, str, Address]]:
        """Each with the listener's name."""
        for name, listener in self.listeners.items():
            for index, bind in enumerate(listener.bind):
                yield ("listeners", name, "bind", index), name, bind

    def servers(self) -> Iterator[tuple[Path, str, str, Server]]:
        """Each with its pool's name and its own."""
        for pool, part in self.pools.items():
            for name, server in part.servers.items():
                yield ("pools", pool, "servers", name), pool, name, server

    def https(self) -> Iterator[tuple[Path, Address]]:
        """Where HTTP is listened at."""
        for key, part in (("admin", self.admin), ("ha", self.ha)):
            if part is not None and part.http is not None:
                yield (key, "http"), part.http

    def checks(self) -> Iterator[tuple[Path, Check]]:
        """Those of all pools."""
        for pool, part in self.pools.items():
            yield ("pools", pool, "check"), part.check
            for name, check in part.more_checks.items():
                yield ("pools", pool, "more_checks", name), check

    def arrivals(self) -> Iterator[tuple[Path, str, Address]]:
        """Where mails of checks are listened for, each with the protocol."""
        for path, check in self.checks():
            for way in ("smtp", "lmtp"):
                if check.arrives and (address := getattr(check.arrives, way)):
                    yield (*path, "arrives", way), way, address


def address_findings(everywhere: Everywhere) -> Iterator[Finding]:
    """What is wrong or odd about them."""
    yield from _ports(everywhere)
    yield from _binds(everywhere)
    yield from _http(everywhere)
    yield from _arrivals(everywhere)
    yield from _own_servers(everywhere)
    yield from _servers_of_http(everywhere)
    yield from _same_servers(everywhere)
    yield from _reserved(everywhere)
    if everywhere.machine is not None:
        yield from _absent(everywhere)


def _ports(everywhere: Everywhere) -> Iterator[Finding]:
    listening = [(path, bind) for path, _, bind in everywhere.binds()] + [*everywhere.https()]
    for path, address in listening:
        if not address.port and not address.ip.is_loopback:
            yield Finding(
                path,
                "port 0 is another one at each start, which nobody knows: write the port (0 is for"
                " tests, on loopback addresses alone)",
            )


def _binds(everywhere: Everywhere) -> Iterator[Finding]:
    taken: dict[Address, str] = {}
    for path, name, bind in everywhere.binds():
        # Port 0 is a new port each time.
        if bind in taken and bind.port:
            yield Finding(path, f"{bind} is bound by listener `{taken[bind]}` already")
        taken.setdefault(bind, name)
    for path, name, bind in everywhere.binds():
        anywhere = _anywhere(bind)
        if anywhere == bind or anywhere not in taken:
            continue
        if taken[anywhere] == name:
            message = f"{anywhere} of this listener has it already; leave one of them out"
        else:
            message = (
                f"{anywhere} is bound by listener `{taken[anywhere]}`: who connects to {bind.ip}"
                " comes to this one, everybody else to that one"
            )
        yield Finding(path, message, warning=True)


def _http(everywhere: Everywhere) -> Iterator[Finding]:
    """Only listeners share a port with somebody."""
    others = [(bind, f"listener `{name}`") for _, name, bind in everywhere.binds()]
    for path, http in everywhere.https():
        for bind, who in others:
            if http == bind and http.port:
                yield Finding(path, f"{http} is bound by {who} already")
                break
            if http.overlaps(bind):
                yield Finding(path, f"{http} can't be had beside {bind}, which {who} binds")
                break


def _arrivals(everywhere: Everywhere) -> Iterator[Finding]:
    """Checks share an address with each other alone, and by one protocol."""
    others = [(bind, f"listener `{name}` binds") for _, name, bind in everywhere.binds()]
    others += [(at, f"`{'.'.join(map(str, path))}` has") for path, at in everywhere.https()]
    servers = {server.address: f"{pool}/{name}" for _, pool, name, server in everywhere.servers()}
    ways: dict[Address, str] = {}
    for path, way, address in everywhere.arrivals():
        taken = next((f"{who} {at}" for at, who in others if address.overlaps(at)), "")
        if taken:
            yield Finding(path, f"{address} can't be listened at: {taken}; take another port")
        elif address in servers:
            yield Finding(
                path,
                f"{address} is server `{servers[address]}`, and mailweir itself listens for the"
                " mails of checks: write an address of this machine, and have the server hand"
                " the mails on to it",
            )
        elif ways.setdefault(address, way) != way:
            yield Finding(path, f"{address} is for `{ways[address]}` already; take another port")


def _own_servers(everywhere: Everywhere) -> Iterator[Finding]:
    """Servers that are a listener of this process. Where its sessions come back it is a loop."""
    listeners, pools = everywhere.listeners, everywhere.pools
    bound = {bind: name for _, name, bind in everywhere.binds() if bind.port}
    named = frozenset(bind.ip for bind in bound)
    found: list[tuple[str, str, Address]] = []
    leads = {name: set(pool.overflow) for name, pool in pools.items()}
    for _, pool, name, server in everywhere.servers():
        bind = at = server.address
        if at not in bound:
            bind = _anywhere(at)
            # Asked last: it takes a call of the system.
            if bind not in bound or not (at.ip in named or everywhere.has(at.ip)):
                continue
        found.append((pool, name, bind))
        leads.setdefault(pool, set()).add(listeners[bound[bind]].pool)
    beyond = {pool: _beyond(pool, leads) for pool in {li.pool for li in listeners.values()}}
    for pool, name, bind in found:
        address, next_pool = pools[pool].servers[name].address, listeners[bound[bind]].pool
        itself = f"{address} is this process itself: listener `{bound[bind]}` binds {bind}"
        path = ("pools", pool, "servers", name, "address")
        if pool == next_pool:
            yield Finding(path, f"{itself} and sends its sessions to this pool (a loop)")
        elif pool in beyond[next_pool]:
            yield Finding(
                path,
                f"{itself} and sends its sessions to pool `{next_pool}`, whose servers lead back"
                " to this pool (a loop)",
            )
        else:
            yield Finding(path, f"{itself}; its sessions are there twice", warning=True)


def _beyond(pool: str, leads: Mapping[str, set[str]]) -> set[str]:
    """The pools that sessions of `pool` can come to."""
    found: set[str] = set()
    ahead = [pool]
    while ahead:
        new = leads.get(ahead.pop(), set()) - found
        found |= new
        ahead += new
    return found


def _servers_of_http(everywhere: Everywhere) -> Iterator[Finding]:
    https = {http: ".".join(map(str, path)) for path, http in everywhere.https()}
    ports = frozenset(http.port for http in https)
    for path, _, _, server in everywhere.servers():
        at = server.address
        if at.port not in ports:
            continue  # nearly all, and soon
        if at not in https:
            at = _anywhere(at)
            if at not in https or not everywhere.has(server.address.ip):
                continue
        message = f"{server.address} is `{https[at]}` of mailweir itself, no mail server"
        yield Finding((*path, "address"), message)


def _same_servers(everywhere: Everywhere) -> Iterator[Finding]:
    """One server by two names. In two pools it may be; a header it expects from both or neither."""
    known: dict[Address, tuple[str, str, Server]] = {}
    of_pool: dict[tuple[str, Address], str] = {}
    for path, pool, name, server in everywhere.servers():
        at = server.address
        first = of_pool.setdefault((pool, at), name)
        if first != name:
            yield Finding(
                (*path, "address"),
                f"{at} is server `{first}` already: by two names it has twice the sessions and"
                " twice the checks; leave one out, or give it a larger `weight`",
            )
            continue
        other_pool, other_name, other = known.setdefault(at, (pool, name, server))
        if (other.proxy is Proxy.OFF) != (server.proxy is Proxy.OFF):
            yield Finding(
                (*path, "proxy"),
                f"{at} is server `{other_pool}/{other_name}` too, with `proxy: {other.proxy}`: a"
                " port takes a PROXY header from everybody or from nobody, so one of them fails",
                warning=True,
            )


def _reserved(everywhere: Everywhere) -> Iterator[Finding]:
    for path, ip in _all(everywhere):
        if isinstance(ip, IPv4Address) and not ip.is_unspecified:
            for network in _RESERVED:
                if ip in network:
                    yield Finding(
                        path,
                        f"{ip} is of {network}, which is reserved: most systems and routers drop"
                        " what comes from there or goes there",
                        warning=True,
                    )


def _all(everywhere: Everywhere) -> Iterator[tuple[Path, IP]]:
    yield from ((path, bind.ip) for path, _, bind in everywhere.binds())
    for path, _, _, server in everywhere.servers():
        yield (*path, "address"), server.address.ip
        yield from (((*path, "source", index), ip) for index, ip in enumerate(server.source))


def _absent(everywhere: Everywhere) -> Iterator[Finding]:
    """Addresses that this machine hasn't. Those of a pair come and go, and that is said there."""
    ha = everywhere.ha
    comes = frozenset(one.address.ip for one in (*ha.virtual, *ha.source)) if ha else frozenset()
    lacks = "this machine doesn't have it now"
    for path, _, bind in everywhere.binds():
        if _is_absent(bind.ip, everywhere, comes):
            yield Finding(
                path,
                f"{bind.ip}: {lacks}, and nobody gets here until it does; an address that moves"
                " between two machines belongs in `ha.virtual` as well",
                warning=True,
            )
    for path, _, _, server in everywhere.servers():
        for index, ip in enumerate(server.source):
            if _is_absent(ip, everywhere, comes):
                yield Finding(
                    (*path, "source", index),
                    f"{ip}: {lacks}, and the server can't be dialled from it until it does; an"
                    " address that moves between two machines belongs in `ha.source` as well",
                    warning=True,
                )
    for path, ip in _of_checks(everywhere):
        if _is_absent(ip, everywhere, comes):
            message = f"{ip}: {lacks}, and the check can't be made until it does"
            yield Finding(path, message, warning=True)
    for path, http in everywhere.https():
        if _is_absent(http.ip, everywhere, comes):
            message = f"{http.ip}: {lacks}, and the process doesn't start without it"
            yield Finding(path, message, warning=True)


def _of_checks(everywhere: Everywhere) -> Iterator[tuple[Path, IP]]:
    """What checks need of this machine."""
    yield from (
        ((*path, "source"), check.source) for path, check in everywhere.checks() if check.source
    )
    yield from ((path, address.ip) for path, _, address in everywhere.arrivals())


def _is_absent(ip: IP, everywhere: Everywhere, comes: frozenset[IP]) -> bool:
    return not ip.is_unspecified and ip not in comes and not everywhere.has(ip)


def _anywhere(address: Address) -> Address:
    """Where all of an IP version is listened at, at this port."""
    return Address(_ANYWHERE[address.ip.version], address.port)
