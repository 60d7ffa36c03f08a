"""What concerns more than one key: references, loops, duplicate addresses, idle limits.

Called by `load` with the listeners and pools that are valid in themselves, so that a
mistake in one place doesn't hide one in another. Pure.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice

from mailweir.config.address import Address
from mailweir.config.listener import Listener, Timeouts
from mailweir.config.model import Admin
from mailweir.config.pool import Pool
from mailweir.config.units import format_duration
from mailweir.config.words import CheckKind, Protocol

Path = tuple[str | int, ...]

# RFC 5321, 4.5.3.2.6: the sender waits 10 min for the answer to the final dot.
_LEAST_IDLE_SERVER = 600.0
# Postfix's smtpd_timeout: its own 421 has to come first.
_LEAST_IDLE_CLIENT = 300.0
# Of the servers that a warning is about.
_SHOWN = 3
# Words that are compared with a wrong one, and how long it may be: comparing takes its time.
_COMPARED, _LONGEST_COMPARED = 200, 64


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong, or with `warning` only odd, at `path`."""

    path: Path
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """What is valid in itself; `pool_names` has the others' names as well."""

    admin: Admin | None
    listeners: Mapping[str, Listener]
    pools: Mapping[str, Pool]
    pool_names: frozenset[str]
    # The pool that each listener names, of those that aren't valid as well.
    uses: Mapping[str, str]


def findings(parts: Parts) -> Iterator[Finding]:
    """Everything that is wrong or odd between the parts."""
    used = frozenset(parts.uses.values())
    users: dict[str, dict[str, Listener]] = {}
    for name, listener in parts.listeners.items():
        users.setdefault(listener.pool, {})[name] = listener
    bound = {bind.ip: n for n, li in parts.listeners.items() for bind in li.bind}
    for name, pool_name in parts.uses.items():
        yield from _unknown_pool(("listeners", name, "pool"), pool_name, parts.pool_names)
    for name, listener in parts.listeners.items():
        yield from _timeouts(("listeners", name, "timeouts"), listener.timeouts)
    yield from _duplicate_addresses(parts)
    yield from _own_servers(parts.listeners, parts.pools)
    for name, pool in parts.pools.items():
        yield from _sources(("pools", name, "servers"), pool, bound)
        yield from _check(("pools", name, "check"), pool, users.get(name, {}))
        if name not in used:
            yield Finding(("pools", name), "no listener uses this pool", warning=True)
        elif name in users:
            yield from _strangers(("pools", name, "servers"), pool)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` where something known is near, else nothing."""
    if len(word) > _LONGEST_COMPARED:
        return ""
    near = get_close_matches(word, islice(known, _COMPARED), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _unknown_pool(path: Path, pool: str, known: frozenset[str]) -> Iterator[Finding]:
    # Without any pools there is one problem, not one per listener.
    if known and pool not in known:
        yield Finding(path, f"there is no pool `{pool}`{did_you_mean(pool, sorted(known))}")


def _timeouts(path: Path, timeouts: Timeouts) -> Iterator[Finding]:
    for name in ("connect", "greeting"):
        single: float = getattr(timeouts, name)
        if timeouts.accept_total <= single:
            # At the key that was written; the other one is at its default.
            key = "accept_total" if "accept_total" in timeouts.model_fields_set else name
            yield Finding(
                (*path, key),
                f"`accept_total` ({format_duration(timeouts.accept_total)}) must be longer than"
                f" `{name}` ({format_duration(single)}), or no second server is ever tried",
            )
    if timeouts.i_accept_duplicates:
        return
    if timeouts.idle_server < _LEAST_IDLE_SERVER:
        yield Finding(
            (*path, "idle_server"),
            "must be at least 600s: RFC 5321 gives a server 10 min to answer the final dot, and a"
            " session cut before that is sent again (`i_accept_duplicates: true` allows it)",
        )
    if timeouts.idle_client < _LEAST_IDLE_CLIENT:
        yield Finding(
            (*path, "idle_client"),
            "must be at least 300s: the server's own limit (Postfix: 300s) has to come first, so"
            " that the client gets its 421 (`i_accept_duplicates: true` allows it)",
        )


def _own_servers(listeners: Mapping[str, Listener], pools: Mapping[str, Pool]) -> Iterator[Finding]:
    """Servers that are a listener of this process. Where its sessions come back it is a loop."""
    bound = {bind: name for name, li in listeners.items() for bind in li.bind if bind.port}
    ours = frozenset(bind.ip for bind in bound)
    found: list[tuple[str, str, Address]] = []
    leads: dict[str, set[str]] = {}
    for pool, part in pools.items():
        for name, server in part.servers.items():
            if bind := _reached(server.address, bound, ours):
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


def _reached(
    server: Address, bound: Mapping[Address, str], ours: Collection[IPv4Address | IPv6Address]
) -> Address | None:
    """Where connecting to `server` ends in this process, as far as the file alone can tell."""
    if server in bound:
        return server
    anywhere = Address(ip_address("0.0.0.0" if server.ip.version == 4 else "::"), server.port)  # noqa: S104
    is_ours = server.ip.is_loopback or server.ip in ours
    return anywhere if is_ours and anywhere in bound else None


def _beyond(pool: str, leads: Mapping[str, set[str]]) -> set[str]:
    """The pools that sessions of `pool` can come to."""
    found: set[str] = set()
    ahead = [pool]
    while ahead:
        new = leads.get(ahead.pop(), set()) - found
        found |= new
        ahead += new
    return found


def _sources(
    path: Path, pool: Pool, bound: Mapping[IPv4Address | IPv6Address, str]
) -> Iterator[Finding]:
    for name, server in pool.servers.items():
        for index, source in enumerate(server.source):
            at = (*path, name, "source", index)
            if source.version != server.address.ip.version:
                yield Finding(at, f"{source} can't reach {server.address}: not the same IP version")
            elif source in server.source[:index]:
                yield Finding(at, f"{source} is there twice")
            elif source in bound:
                yield Finding(
                    at,
                    f"listener `{bound[source]}` binds {source}: a virtual address moves to the"
                    " other node in a failover, and sessions that were dialled from it break",
                )


def _strangers(path: Path, pool: Pool) -> Iterator[Finding]:
    """Servers that take mailweir for the client, where nobody said that this is meant."""
    names = [n for n, one in pool.servers.items() if "proxy" not in one.model_fields_set]
    if names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        yield Finding(
            path,
            f"{', '.join(names[:_SHOWN])}{more} won't know who the client is: write `proxy: v2`"
            " (in Postfix `smtpd_upstream_proxy_protocol = haproxy`), or `proxy: off` if that is"
            " meant",
            warning=True,
        )


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


def _check(path: Path, pool: Pool, users: Mapping[str, Listener]) -> Iterator[Finding]:
    if pool.check.kind != CheckKind.EHLO:
        return
    for name, listener in users.items():
        if listener.protocol == Protocol.SMTPS:
            yield Finding(
                (*path, "kind"),
                f"`ehlo` can't check this pool: listener `{name}` is smtps, where TLS comes first"
                " and the servers send no greeting; use `tcp`",
            )
            return
