"""A server as it is examined: what the configuration has of it, its pool and listeners. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mailweir.config.address import Address
from mailweir.config.check_keys import Check
from mailweir.config.model import Config
from mailweir.config.pool import Pool, Server
from mailweir.config.words import (
    HTTP_KINDS,
    SMTP_KINDS,
    CheckKind,
    Others,
    Protocol,
    Proxy,
    Verify,
)
from mailweir.doctor.opening import IP

_Speaks = Literal["smtp", "smtps", "tcp"]


@dataclass(frozen=True, slots=True)
class Subject:
    """One server. `speaks` is what it is asked in: by its listeners' protocols, of several the
    first of smtp, smtps, tcp. Times are in seconds.

    `admits_anybody`: whether a listener lets strangers in. `ipv6_clients`: whether one binds
    IPv6. `reached_at`: addresses of the internet that its clients connect to. `listener` is the
    one of them that waits least for a greeting, for `greeting` seconds; None where nobody uses it.

    `checks`: how many sessions checks may have there beside those of clients. `ca`: the file of
    those whom checks trust, None for the system's.
    """

    pool: str
    name: str
    server: Server
    helo: str | None
    speaks: _Speaks
    connect: float
    check_timeout: float
    listener: str | None
    greeting: float
    admits_anybody: bool
    ipv6_clients: bool
    reached_at: tuple[IP, ...]
    checks: int
    ca: Path | None

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.pool}/{self.name} ({self.server.address})"

    @property
    def address(self) -> Address:
        """Where it is dialled."""
        return self.server.address

    @property
    def proxy(self) -> Proxy:
        """The header that it is sent."""
        return self.server.proxy

    def key(self, name: str) -> str:
        """The path of one of its keys in the configuration."""
        return f"pools.{self.pool}.servers.{self.name}.{name}"


def subjects(config: Config, pool: str | None) -> Iterator[Subject]:
    """Every server of the configuration, or of one pool."""
    for name, part in config.pools.items():
        if pool in (None, name):
            yield from _of_pool(config, name, part)


def _of_pool(config: Config, name: str, pool: Pool) -> Iterator[Subject]:
    users = dict(config.users(name))
    spoken = config.protocols(name) or {Protocol.SMTP}
    speaks: _Speaks = "tcp"
    if Protocol.SMTP in spoken:
        speaks = "smtp"
    elif Protocol.SMTPS in spoken:
        speaks = "smtps"
    binds = [bind.ip for listener in users.values() for bind in listener.bind]
    reached = dict.fromkeys(ip for bind in binds for ip in _at(bind, config) if ip.is_global)
    least = min(users, key=lambda one: users[one].timeouts.greeting, default=None)
    check = pool.check
    checks = [check, *pool.more_checks.values()]
    verifying = (one for one in checks if one.kind in SMTP_KINDS and one.ca)
    ca = next((one.ca for one in verifying if one.verify_in_effect is not Verify.NONE), None)
    for server in pool.servers:
        yield Subject(
            name,
            server,
            pool.servers[server],
            check.helo,
            speaks,
            max((one.timeouts.connect for one in users.values()), default=check.timeout),
            check.timeout,
            least,
            users[least].timeouts.greeting if least else check.timeout,
            any(one.others_in_effect is not Others.REFUSE for one in users.values()),
            any(ip.version == 6 for ip in binds),
            tuple(reached),
            sum(_comes_as_clients_do(one, pool.servers[server]) for one in checks),
            ca,
        )


def _at(bind: IP, config: Config) -> list[IP]:
    """What clients connect to: of a listener at all addresses, those that the pair moves."""
    if not bind.is_unspecified:
        return [bind]
    floating = [one.address.ip for one in config.ha.virtual] if config.ha else []
    return [ip for ip in floating if ip.version == bind.version]


def _comes_as_clients_do(check: Check, server: Server) -> bool:
    """Whether it is at the port of sessions, from where they come: servers count it with them."""
    return (
        check.kind not in HTTP_KINDS
        and check.kind is not CheckKind.AGENT
        and check.port in (None, server.address.port)
        and (check.source is None or check.source in server.source)
    )
