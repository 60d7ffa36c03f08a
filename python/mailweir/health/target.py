"""What is checked, and how: the configuration's checks, one by one. Pure.

Read by the probes; `check` runs a Target, `monitor` says when.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from mailweir.config.address import Address
from mailweir.config.check_keys import Check
from mailweir.config.model import MAIN_CHECK, Config
from mailweir.config.pool import Pool, Server
from mailweir.config.words import CheckKind, Decides, Protocol, Proxy
from mailweir.spec import ServerKey, ServerState
from mailweir.state.overrides import Overrides


class CheckKey(NamedTuple):
    """Which check of which server; the pool's own is called MAIN_CHECK."""

    server: ServerKey
    check: str

    @property
    def is_main(self) -> bool:
        """Whether it is the check that a server can't be without."""
        return self.check == MAIN_CHECK


class Speech(StrEnum):
    """What the servers of a pool speak."""

    SMTP = "smtp"
    SMTPS = "smtps"  # TLS first
    OPAQUE = "opaque"  # not known, or not always the same


_SPEECHES = {
    frozenset((Protocol.SMTP,)): Speech.SMTP,
    frozenset((Protocol.SMTPS,)): Speech.SMTPS,
}


@dataclass(frozen=True, slots=True)
class Target:
    """One check of one server. A server that doesn't accept within `connect` seconds has failed:
    that is the most that a session waits for it.
    """

    address: Address
    connect: float
    kind: CheckKind
    speech: Speech
    proxy: Proxy
    check: Check
    source: IPv4Address | IPv6Address | None = None  # by default the one that the route gives
    decides: Decides = Decides.STATE


def targets(config: Config, overrides: Overrides) -> dict[CheckKey, Target]:
    """Every check of every server of the configuration, but those in maintenance."""
    floating = frozenset(one.address.ip for one in (config.ha.source if config.ha else ()))
    found = {}
    for pool_name, pool in config.pools.items():
        speech = _SPEECHES.get(frozenset(config.protocols(pool_name)), Speech.OPAQUE)
        patience = (one.timeouts.connect for _, one in config.users(pool_name))
        limit = max(patience, default=pool.check.timeout)
        checks = list(_checks(pool, config.check_kind(pool_name)))
        for name, server in pool.servers.items():
            key = ServerKey(pool_name, name)
            if overrides.server_state(key) is ServerState.MAINT:
                continue
            for check_name, kind, decides, check in checks:
                found[CheckKey(key, check_name)] = Target(
                    address=_at(server, check, kind),
                    connect=limit,
                    kind=kind,
                    speech=speech,
                    proxy=check.proxy or server.proxy,
                    check=check,
                    source=check.source or _fixed(server, floating),
                    decides=decides,
                )
    return found


def _checks(pool: Pool, main: CheckKind) -> Iterator[tuple[str, CheckKind, Decides, Check]]:
    yield MAIN_CHECK, main, Decides.STATE, pool.check
    for name, check in pool.more_checks.items():
        yield name, check.kind, check.decides, check


_PORTS = {CheckKind.HTTP: 80, CheckKind.HTTPS: 443}


def _at(server: Server, check: Check, kind: CheckKind) -> Address:
    port = check.port or _PORTS.get(kind, server.address.port)
    return Address(server.address.ip, port)


def _fixed(
    server: Server, floating: frozenset[IPv4Address | IPv6Address]
) -> IPv4Address | IPv6Address | None:
    """The first address that sessions are dialled from, and that is this node's all the time."""
    return next((ip for ip in server.source if ip not in floating), None)
