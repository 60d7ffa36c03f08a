"""One check of one server: the probe of its kind under one deadline. Called by the monitor."""

import asyncio
import time
from dataclasses import dataclass

from mailweir.config.address import Address
from mailweir.config.model import Config
from mailweir.config.pool import Check
from mailweir.config.units import format_duration
from mailweir.config.words import CheckKind, Protocol, Proxy
from mailweir.foreign import shown
from mailweir.health.probes import ehlo, tcp
from mailweir.health.probes.dial import LocalError, ProbeError, Progress, connect
from mailweir.spec import ServerKey, ServerState
from mailweir.state.overrides import Overrides


@dataclass(frozen=True, slots=True)
class Target:
    """What to check, and how. A server that doesn't accept within `connect` seconds has failed:
    that is the most that a session waits for it.
    """

    address: Address
    connect: float
    kind: CheckKind
    smtp: bool
    proxy: Proxy
    check: Check


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found. `step` and `detail` say what failed and are empty where nothing did.

    One that isn't `conclusive` couldn't be made and says nothing of the server.
    """

    ok: bool
    step: str
    detail: str
    seconds: float
    at: float  # on time.monotonic's clock
    conclusive: bool = True


def targets(config: Config, overrides: Overrides) -> dict[ServerKey, Target]:
    """Every server of the configuration as something to check, but those in maintenance."""
    found = {}
    for pool_name, pool in config.pools.items():
        kind = config.check_kind(pool_name)
        smtp = config.protocols(pool_name) == {Protocol.SMTP}
        patience = (one.timeouts.connect for _, one in config.users(pool_name))
        limit = max(patience, default=pool.check.timeout)
        for name, server in pool.servers.items():
            key = ServerKey(pool_name, name)
            if overrides.server_state(key) is ServerState.MAINT:
                continue
            found[key] = Target(server.address, limit, kind, smtp, server.proxy, pool.check)
    return found


async def run(target: Target) -> Outcome:
    """Check a server once. Never raises but for cancellation."""
    progress = Progress()
    started = time.monotonic()
    step = detail = ""
    conclusive = True
    try:
        async with asyncio.timeout(target.check.timeout):
            sock = await connect(target.address, target.proxy, target.connect)
            if target.kind is CheckKind.EHLO:
                await ehlo.probe(sock, progress, helo=target.check.helo)
            else:
                await tcp.probe(sock, progress, smtp=target.smtp)
    except ProbeError as error:
        step, detail = error.step, error.detail
    except LocalError as error:
        step, detail, conclusive = "local", str(error), False
    except TimeoutError:
        if not progress.passed:
            step = progress.step
            detail = f"no answer within {format_duration(target.check.timeout)}"
    except Exception as error:
        # A bug of ours or of a library: it must not end the checks of this server.
        step, detail = progress.step, shown(f"internal error: {error!r}")
    return Outcome(not step, step, detail, time.monotonic() - started, started, conclusive)
