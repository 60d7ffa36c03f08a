"""What concerns more than one part: references, loops, duplicate addresses.

Called by `load` with the listeners and pools that are valid in themselves, so that a
mistake in one place doesn't hide one in another. What concerns one listener or one pool alone is
in `listener_rules` and `pool_rules`, what concerns a pair in `ha_rules`. Pure.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from mailweir.config.address import Address
from mailweir.config.finding import Finding, Path, did_you_mean
from mailweir.config.ha import Ha
from mailweir.config.ha_rules import Around, ha_findings
from mailweir.config.listener import Listener
from mailweir.config.listener_rules import listener_findings
from mailweir.config.model import Admin
from mailweir.config.pool import Pool
from mailweir.config.pool_rules import pool_findings


@dataclass(frozen=True, slots=True)
class Parts:
    """What is valid in itself; `pool_names` has the others' names as well."""

    admin: Admin | None
    listeners: Mapping[str, Listener]
    pools: Mapping[str, Pool]
    pool_names: frozenset[str]
    # The pool that each listener names, of those that aren't valid as well.
    uses: Mapping[str, str]
    ha: Ha | None


# Whether an address is one of this machine's: not for this package to know.
IsOwn = Callable[[IPv4Address | IPv6Address], bool]


def nobodys(_: IPv4Address | IPv6Address) -> bool:
    """Of what the file alone can tell."""
    return False


def findings(parts: Parts, is_own: IsOwn) -> Iterator[Finding]:
    """Everything that is wrong or odd between the parts."""
    used = frozenset(parts.uses.values())
    users: dict[str, dict[str, Listener]] = {}
    for name, listener in parts.listeners.items():
        users.setdefault(listener.pool, {})[name] = listener
    bound = {bind.ip: n for n, li in parts.listeners.items() for bind in li.bind}
    for name, pool_name in parts.uses.items():
        yield from _unknown_pool(("listeners", name, "pool"), pool_name, parts.pool_names)
    for name, listener in parts.listeners.items():
        yield from listener_findings(("listeners", name), listener)
    yield from _duplicate_addresses(parts)
    yield from _own_servers(parts.listeners, parts.pools, is_own)
    for name, pool in parts.pools.items():
        yield from pool_findings(("pools", name), pool, users.get(name, {}), bound)
        if name not in used:
            yield Finding(("pools", name), "no listener uses this pool", warning=True)
    if parts.ha:
        complete = (
            parts.pools.keys() == parts.pool_names and parts.listeners.keys() == parts.uses.keys()
        )
        around = Around(parts.admin, parts.listeners, parts.pools, complete)
        yield from ha_findings(parts.ha, around)


def _unknown_pool(path: Path, pool: str, known: frozenset[str]) -> Iterator[Finding]:
    # Without any pools there is one problem, not one per listener.
    if known and pool not in known:
        yield Finding(path, f"there is no pool `{pool}`{did_you_mean(pool, sorted(known))}")


def _own_servers(
    listeners: Mapping[str, Listener], pools: Mapping[str, Pool], is_own: IsOwn
) -> Iterator[Finding]:
    """Servers that are a listener of this process. Where its sessions come back it is a loop."""
    bound = {bind: name for name, li in listeners.items() for bind in li.bind if bind.port}
    named = frozenset(bind.ip for bind in bound)
    found: list[tuple[str, str, Address]] = []
    leads: dict[str, set[str]] = {}
    for pool, part in pools.items():
        for name, server in part.servers.items():
            if bind := _reached(server.address, bound, lambda ip: ip in named or is_own(ip)):
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


def _reached(server: Address, bound: Mapping[Address, str], is_own: IsOwn) -> Address | None:
    """Where connecting to `server` ends in this process."""
    if server in bound:
        return server
    anywhere = Address(ip_address("0.0.0.0" if server.ip.version == 4 else "::"), server.port)  # noqa: S104
    if anywhere in bound and (server.ip.is_loopback or is_own(server.ip)):
        return anywhere
    return None


def _beyond(pool: str, leads: Mapping[str, set[str]]) -> set[str]:
    """The pools that sessions of `pool` can come to."""
    found: set[str] = set()
    ahead = [pool]
    while ahead:
        new = leads.get(ahead.pop(), set()) - found
        found |= new
        ahead += new
    return found


def _duplicate_addresses(parts: Parts) -> Iterator[Finding]:
    taken: dict[Address, str] = {}
    for name, listener in parts.listeners.items():
        for index, bind in enumerate(listener.bind):
            # Port 0 is a new port each time.
            if bind in taken and bind.port:
                yield Finding(
                    ("listeners", name, "bind", index),
                    f"{bind} is bound by listener `{taken[bind]}` already",
                )
            taken.setdefault(bind, name)
    http = parts.admin.http if parts.admin else None
    if http is not None and http.port and http in taken:
        yield Finding(("admin", "http"), f"{http} is bound by listener `{taken[http]}` already")
