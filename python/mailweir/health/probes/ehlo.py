"""Checks a server as a client would meet it: greeting, EHLO, and extensions that must be there."""

from mailweir.health.probes.dial import ProbeError, Progress
from mailweir.health.probes.dialogue import conversing
from mailweir.health.target import Target


async def probe(target: Target, progress: Progress) -> None:
    """Raises ProbeError at greeting or ehlo."""
    async with conversing(target, progress) as dialogue:
        await dialogue.ehlo(target.check.helo)
        wanted = dict.fromkeys(word.upper() for word in target.check.requires)
        if lacking := [word for word in wanted if word not in dialogue.extensions]:
            raise ProbeError("ehlo", f"the server doesn't offer {', '.join(lacking)}")
