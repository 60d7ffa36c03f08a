"""The fold: configuration, health and operators' words in, DesiredState out. Pure.

Called by the daemon.
"""

from collections.abc import Mapping
from enum import StrEnum

from mailweir.config.listener import Listener
from mailweir.config.model import Config
from mailweir.config.pool import Pool, Server
from mailweir.config.words import Forwarding
from mailweir.instance import instance_of
from mailweir.spec import (
    DesiredDrain,
    DesiredKernel,
    DesiredListener,
    DesiredLog,
    DesiredPool,
    DesiredServer,
    DesiredState,
    DesiredTimeouts,
    ServerKey,
    ServerState,
)
from mailweir.state.overrides import Overrides

# Seconds of silence before a cut where nothing can be read of what is said (TLS) or where an
# answer may belong to an earlier chunk (BDAT, RFC 3030).
_QUIET_OPAQUE = 30.0


class Health(StrEnum):
    """What the checks say of a server."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


def fold(
    config: Config,
    health: Mapping[ServerKey, Health],
    overrides: Overrides,
    *,
    hostname: str,
    max_sessions: int,
) -> DesiredState:
    """What the data plane is to do. `max_sessions` is what the descriptors are enough for.

    What operators said counts more than the configuration and, of servers that are to be out
    of use, more than their health.

    A server is up only where a check said so: one that nobody has checked yet (not in
    `health`, or unknown) is down, since a session sent to it might wait in vain.
    """
    drain = config.drain
    return DesiredState(
        hostname=hostname,
        max_sessions=config.max_sessions or max_sessions,
        drain=DesiredDrain(
            quiet=drain.quiet,
            quiet_opaque=max(_QUIET_OPAQUE, drain.quiet),
            spread=drain.spread,
            deadline=drain.deadline,
        ),
        log=DesiredLog(sessions=config.log.sessions, format=config.log.format),
        kernel=DesiredKernel(
            instance=instance_of(config.state_dir),
            source_ports=(config.source_ports[0], config.source_ports[-1]),
            max_flows=config.max_flows,
            # They have no descriptors, which it is derived from otherwise.
            counted=config.max_sessions is not None,
        ),
        listeners=tuple(
            _listener(name, li, config.forwarding, paused=overrides.pause_of(name) is not None)
            for name, li in config.listeners.items()
        ),
        pools=tuple(_pool(name, pool, health, overrides) for name, pool in config.pools.items()),
    )


def _listener(
    name: str, listener: Listener, forwarding: Forwarding, *, paused: bool
) -> DesiredListener:
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
        max_sessions=listener.limits.sessions,
        max_age=listener.max_age or None,
        forwarding=listener.forwarding or forwarding,
        paused=paused,
    )


def _pool(
    name: str, pool: Pool, health: Mapping[ServerKey, Health], overrides: Overrides
) -> DesiredPool:
    servers = tuple(
        _server(ServerKey(name, server_name), server, health, overrides)
        for server_name, server in pool.servers.items()
    )
    return DesiredPool(name=name, balance=pool.balance, servers=servers)


def _server(
    key: ServerKey, server: Server, health: Mapping[ServerKey, Health], overrides: Overrides
) -> DesiredServer:
    weighs = overrides.weights.get(str(key))
    healthy = ServerState.UP if health.get(key) is Health.UP else ServerState.DOWN
    return DesiredServer(
        name=key.server,
        address=str(server.address),
        weight=weighs.weight_for(server.weight) if weighs else server.weight,
        state=overrides.server_state(key) or healthy,
        max_sessions=server.max_sessions,
        proxy=server.proxy,
        source=tuple(str(ip) for ip in server.source),
    )
