"""Checks that mail gets through: a small mail with a token is taken and, where the check says where
it goes, arrives there.

The token is a secret of this process and of this check, so that nobody else can have a mail
arrive.
"""

from email.utils import formatdate
from secrets import token_hex

from mailweir.health.probes import arrival, rcpt, tls
from mailweir.health.probes.dial import Progress
from mailweir.health.probes.dialogue import conversing
from mailweir.health.target import Target

_TOKEN_BYTES = 16


async def probe(target: Target, progress: Progress) -> None:
    """Raises ProbeError as `rcpt`, and at data or arrival."""
    check = target.check
    token = token_hex(_TOKEN_BYTES)
    progress.awaits_more = bool(check.arrives)
    context = await tls.context(check) if check.user else None
    async with arrival.awaited(check.arrives, token, progress) as arrived:
        async with conversing(target, progress, context) as dialogue:
            await rcpt.address(dialogue, target)
            await dialogue.ask("data", "DATA", good="354")
            await dialogue.ask("data", _mail(check.mail_from, str(check.rcpt_to), token))
        if check.arrives:
            progress.step = "arrival"
            progress.awaited = "mail"
            await arrived()


def _mail(sender: str, recipient: str, token: str) -> str:
    """RFC 5322, up to the dot at its end; with what keeps autoresponders quiet (RFC 3834)."""
    lines = (
        f"Date: {formatdate()}",
        f"From: <{sender or recipient}>",
        f"To: <{recipient}>",
        f"Subject: mailweir check {token}",
        f"Message-ID: <{token}@mailweir.invalid>",
        f"{arrival.HEADER}: {token}",
        "Auto-Submitted: auto-generated",
        "",
        "This mail checks that mail gets through. It can be deleted.",
        ".",
    )
    return "\r\n".join(lines)
