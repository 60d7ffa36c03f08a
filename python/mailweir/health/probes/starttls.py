"""Checks a server's certificate: by STARTTLS, or on a connection that begins with TLS."""

from mailweir.health.probes import tls
from mailweir.health.probes.dial import Progress
from mailweir.health.probes.dialogue import conversing
from mailweir.health.target import Speech, Target


async def probe(target: Target, progress: Progress) -> None:
    """Raises ProbeError at greeting, ehlo, starttls, tls or certificate."""
    check = target.check
    context = await tls.context(check)
    async with conversing(target, progress, context) as dialogue:
        await dialogue.ehlo(check.helo)
        if target.speech is not Speech.SMTPS:
            await dialogue.starttls(context, check.name)
        tls.judge(dialogue.tls, check, progress)
