"""The fold: configuration and health in, DesiredState out. Pure; called by the daemon."""

from collections.abc import Mapping
from enum import StrEnum

from mailweir.config.model import Config, Listener, Pool
from mailweir.spec import (
    DesiredListener,
    DesiredPool,
    DesiredServer,
    DesiredState,
    DesiredTimeouts,
    ServerKey,
    ServerState,
)


class Health(StrEnum):
    """What the checks say of a server."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


def fold(config: Config, health: Mapping[ServerKey, Health], *, hostname: str) -> DesiredState:
    """What the data plane is to do.

    A server is up only where a check said so: one that nobody has checked yet (not in
    `health`, or unknown) is down, since a session sent to it might wait in vain.
    """
    return DesiredState(
        hostname=hostname,
        listeners=tuple(_listener(name, li) for name, li in config.listeners.items()),
        pools=tuple(_pool(name, pool, health) for name, pool in config.pools.items()),
    )


def _listener(name: str, listener: Listener) -> DesiredListener:
    timeouts = listener.timeouts
    return DesiredListener(
        name=name,
        bind=tuple(str(address) for address in listener.bind),
        protocol=listener.protocol,
        pool=listener.pool,
        timeouts=DesiredTimeouts(
            connect=timeouts.connect,
            greeting=timeouts.greeting,
            accept_total=timeouts.accept_total,
            idle_client=timeouts.idle_client,
            idle_server=timeouts.idle_server,
            half_closed=timeouts.half_closed,
        ),
    )


def _pool(name: str, pool: Pool, health: Mapping[ServerKey, Health]) -> DesiredPool:
    servers = tuple(
        DesiredServer(
            name=server_name,
            address=str(server.address),
            weight=server.weight,
            state=_state(health.get(ServerKey(name, server_name), Health.UNKNOWN)),
        )
        for server_name, server in pool.servers.items()
    )
    return DesiredPool(name=name, balance=pool.balance, servers=servers)


def _state(health: Health) -> ServerState:
    return ServerState.UP if health is Health.UP else ServerState.DOWN
