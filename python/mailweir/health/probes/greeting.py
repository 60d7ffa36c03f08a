"""Checks that a server greets, and asks nothing more of it."""

from mailweir.health.probes.dial import Progress
from mailweir.health.probes.dialogue import conversing
from mailweir.health.target import Target


async def probe(target: Target, progress: Progress) -> None:
    """Raises ProbeError at greeting."""
    async with conversing(target, progress):
        pass
