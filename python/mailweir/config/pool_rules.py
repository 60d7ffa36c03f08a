"""What concerns more than one key of a pool: its servers, how one is chosen, its checks.

Called by `rules`. Pure.
"""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address

from mailweir.config.finding import Finding, Path, listed, one_source
from mailweir.config.listener import Listener
from mailweir.config.pool import HashKey, Pool
from mailweir.config.words import HASHES, CheckKind, Protocol


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
    yield from _queue((*path, "queue"), pool)
    yield from _check((*path, "check"), pool, users)
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


def _queue(path: Path, pool: Pool) -> Iterator[Finding]:
    if pool.queue and all(one.max_sessions is None for one in pool.servers.values()):
        yield Finding(
            path, "nobody will ever wait: no server of the pool has `max_sessions`", warning=True
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
