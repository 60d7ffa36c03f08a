"""A server as it is examined: what the configuration has of it, its pool and listeners. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mailweir.config.address import Address
from mailweir.config.model import Config
from mailweir.config.pool import Pool, Server
from mailweir.config.words import Others, Protocol, Proxy
from mailweir.doctor.opening import IP

_Speaks = Literal["smtp", "smtps", "tcp"]


@dataclass(frozen=True, slots=True)
class Subject:
    """One server. `speaks` is what it is asked in: by its listeners' protocols, of several the
    first of smtp, smtps, tcp. Times are in seconds.

    `admits_anybody`: whether a listener lets strangers in. `ipv6_clients`: whether one binds
    IPv6. `reached_at`: addresses of the internet that its clients connect to. `listener` is the
    one of them that waits least for a greeting, for `greeting` seconds; None where nobody uses it.
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
    floating = [one.address.ip for one in config.ha.virtual] if config.ha else []
    least = min(users, key=lambda one: users[one].timeouts.greeting, default=None)
    check = pool.check
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
            tuple(dict.fromkeys(ip for ip in [*floating, *binds] if ip.is_global)),
        )
