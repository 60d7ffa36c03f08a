"""How long first check results are waited for. Called by the daemon, at its start and in reloads.

Servers are down until their first check. Waiting for that before listeners open (or a reload
sends sessions to new servers) keeps sessions from being refused needlessly.
"""

import asyncio
import time
from contextlib import suppress

import structlog

from mailweir.health.monitor import Monitor
from mailweir.state.desired import Health

# A server that takes longer isn't waited for, in seconds...
FIRST_CHECKS = 3.0
# ...unless nothing is known of its whole pool: postscreen takes 6 s to greet a stranger.
FIRST_OF_POOLS = 10.0

_log = structlog.get_logger("mailweir")


async def first_checks(monitor: Monitor) -> None:
    """Wait for them; say of which servers nothing is known then."""
    began = time.monotonic()
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_CHECKS):
            await monitor.first_results()
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_OF_POOLS - FIRST_CHECKS):
            await monitor.first_of_each_pool()
    unknown = [key for key, health in monitor.health().items() if health is Health.UNKNOWN]
    if unknown:
        _log.warning(
            "servers without a first check result stay down until they have one",
            servers=", ".join(map(str, unknown)),
            waited=f"{time.monotonic() - began:.1f}s",
        )
