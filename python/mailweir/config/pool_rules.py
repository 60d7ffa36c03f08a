"""What concerns more than one key of a pool: its servers, how one is chosen. Its
checks are `check_rules`'.

Called by `rules`. Pure.
"""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from math import ceil

from mailweir.config.check_rules import check_findings
from mailweir.config.finding import Finding, Path, listed, one_source
from mailweir.config.listener import Listener
from mailweir.config.pool import HashKey, Outlier, Pool
from mailweir.config.words import HASHES, OnDown, Protocol


def pool_findings(
    path: Path,
    pool: Pool,
    users: Mapping[str, Listener],
    bound: Mapping[IPv4Address | IPv6Address, str],
) -> Iterator[Finding]:
    """What is wrong or odd in one pool; `users` are its listeners, `bound` who binds an address."""
    yield from _sources((*path, "servers"), pool, bound)
    yield from _backups((*path, "servers"), pool)
    yield from _choice(path, pool)
    yield from _queue((*path, "queue"), pool, users)
    yield from _outlier((*path, "outlier"), pool)
    yield from _weights((*path, "servers"), pool)
    yield from _on_down((*path, "on_down"), pool, users)
    yield from check_findings(path, pool, users, bound)
    if users:
        yield from _strangers((*path, "servers"), pool)


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


def _backups(path: Path, pool: Pool) -> Iterator[Finding]:
    if all(server.backup for server in pool.servers.values()):
        yield Finding(path, "every server is a backup: one must be there that they stand in for")


def _choice(path: Path, pool: Pool) -> Iterator[Finding]:
    hashes = pool.balance in HASHES
    if hashes:
        key = pool.hash_key
        yield from one_source((*path, "hash_key"), key.prefix4, key.prefix6)
    elif pool.hash_key != HashKey():
        yield Finding(
            (*path, "hash_key"),
            f"nothing uses it: with `balance: {pool.balance}` nothing is hashed",
            warning=True,
        )
    if pool.sticky and hashes:
        yield Finding(
            (*path, "sticky"),
            f"`balance: {pool.balance}` brings a source back to its server already",
            warning=True,
        )
    elif pool.sticky:
        yield from one_source((*path, "sticky"), pool.sticky.prefix4, pool.sticky.prefix6)


def _queue(path: Path, pool: Pool, users: Mapping[str, Listener]) -> Iterator[Finding]:
    """A waiting room that nobody comes to."""
    if pool.queue is None:
        return
    if all(one.max_sessions is None for one in pool.servers.values()):
        yield Finding(
            path, "nobody will ever wait: no server of the pool has `max_sessions`", warning=True
        )
        return
    used = {n: one for n, one in pool.servers.items() if one.weight and not one.backup}
    if endless := [name for name, one in used.items() if one.max_sessions is None]:
        are = "is" if len(endless) == 1 else "are"
        yield Finding(
            path,
            f"nobody waits while {listed(endless)} {are} up, without `max_sessions`: always free",
            warning=True,
        )
        return
    places = sum(one.max_sessions or 0 for one in used.values())
    limits = [listener.limits.sessions for listener in users.values()]
    let_in = sum(limit or 0 for limit in limits)
    if limits and None not in limits and let_in <= places:
        yield Finding(
            path,
            f"nobody waits while all servers are up: they take {places} sessions, and"
            f" `limits.sessions` of the listeners lets in {let_in}",
            warning=True,
        )


def _outlier(path: Path, pool: Pool) -> Iterator[Finding]:
    """Ejections that somebody thought about, and that never come."""
    if pool.outlier in (None, Outlier()):
        return
    used = sum(one.weight > 0 and not one.backup for one in pool.servers.values())
    if used == 1:
        why = "the only server that isn't a backup never is"
    elif used > 1 and used - ceil(used * pool.panic - 1e-6) < 1:
        why = f"without one of {used} servers the pool would come into `panic: {pool.panic}`"
    else:
        return
    yield Finding(path, f"nobody will ever be ejected: {why}", warning=True)


def _on_down(path: Path, pool: Pool, users: Mapping[str, Listener]) -> Iterator[Finding]:
    """Mail that may come twice, by a check that is wrong."""
    is_mail = any(one.protocol is not Protocol.TCP for one in users.values())
    if pool.on_down is OnDown.END and is_mail:
        yield Finding(
            path,
            "a server that fails `check.fall` checks loses its sessions, though it may be alive:"
            " messages under way are sent again, and come twice where it had taken them",
            warning=True,
        )


def _weights(path: Path, pool: Pool) -> Iterator[Finding]:
    if not any(server.weight for server in pool.servers.values()):
        yield Finding(
            path,
            "every server has weight 0 and takes no sessions: clients hear 421",
            warning=True,
        )


def _strangers(path: Path, pool: Pool) -> Iterator[Finding]:
    """Servers that take mailweir for the client, where nobody said that this is meant."""
    names = [n for n, one in pool.servers.items() if "proxy" not in one.model_fields_set]
    if names:
        yield Finding(
            path,
            f"{listed(names)} won't know who the client is: write `proxy: v2`"
            " (in Postfix `smtpd_upstream_proxy_protocol = haproxy`), or `proxy: off` if that is"
            " meant",
            warning=True,
        )
