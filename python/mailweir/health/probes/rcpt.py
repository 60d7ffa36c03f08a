"""Checks that a server takes mail for somebody, without sending any: MAIL, RCPT, RSET."""

from mailweir.health.probes import tls
from mailweir.health.probes.auth import log_in
from mailweir.health.probes.dial import Progress
from mailweir.health.probes.dialogue import Dialogue, conversing
from mailweir.health.target import Target


async def probe(target: Target, progress: Progress) -> None:
    """Raises ProbeError at greeting, ehlo, mail or rcpt, and where it logs in as `auth`."""
    context = await tls.context(target.check) if target.check.user else None
    async with conversing(target, progress, context) as dialogue:
        await address(dialogue, target)
        await dialogue.ask("rset", "RSET")


async def address(dialogue: Dialogue, target: Target) -> None:
    """Everything up to the recipient. Raises ProbeError."""
    check = target.check
    await dialogue.ehlo(check.helo)
    if check.user:
        await log_in(dialogue, target)
    await dialogue.ask("mail", f"MAIL FROM:<{check.mail_from}>")
    await dialogue.ask("rcpt", f"RCPT TO:<{check.rcpt_to}>")
