"""How many checks one address gets at a time and each second, whatever pools it is in: a host with
many servers mustn't take its balancer for an attacker.

Owned by the monitor. This machine's own addresses have no limits: nobody bans those, and test
farms are there.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

# Postfix lets a client have 50 connections, and is told of by anvil above that; postscreen and
# fail2ban begin to count much lower.
AT_A_TIME = 8
# Seconds between two that begin: 20 each second.
APART = 0.05

Ip = IPv4Address | IPv6Address


@dataclass(slots=True)
class _Host:
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_A_TIME))
    next: float = 0.0  # when another one may begin, on the clock


class Budget:
    """Of one process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._hosts: dict[Ip, _Host] = {}

    @asynccontextmanager
    async def turn(self, ip: Ip) -> AsyncIterator[None]:
        """Within it is one of those that the address may have."""
        if ip.is_loopback:
            yield
            return
        host = self._hosts.setdefault(ip, _Host())
        async with host.slots:
            now = self._clock()
            begins = max(now, host.next)
            host.next = begins + APART
            if begins > now:
                await asyncio.sleep(begins - now)
            yield

    def keep(self, hosts: Set[Ip]) -> None:
        """Forget those that aren't checked any more."""
        for ip in self._hosts.keys() - hosts:
            del self._hosts[ip]
