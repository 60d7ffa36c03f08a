"""Checks that a user can log in (RFC 4954), behind TLS alone."""

from base64 import b64encode

from mailweir.health.probes import tls
from mailweir.health.probes.dial import LocalError, ProbeError, Progress
from mailweir.health.probes.dialogue import Dialogue, conversing
from mailweir.health.probes.files import password
from mailweir.health.target import Speech, Target


async def probe(target: Target, progress: Progress) -> None:
    """Raises ProbeError as `logged_in`, and at greeting."""
    context = await tls.context(target.check)
    async with conversing(target, progress, context) as dialogue:
        await dialogue.ehlo(target.check.helo)
        await log_in(dialogue, target)


async def log_in(dialogue: Dialogue, target: Target) -> None:
    """Raises ProbeError at starttls, tls, certificate or auth. The password shows nowhere: a reply
    that has it in it is cut to its code.
    """
    check = target.check
    if check.user is None or check.password_file is None:
        raise LocalError("`user` or `password_file` is missing")
    secret = await password(check.password_file)
    if target.speech is not Speech.SMTPS:
        await dialogue.starttls(await tls.context(check), check.name)
    try:
        await _authenticate(dialogue, check.user, secret)
    except ProbeError as error:
        both = _encoded(f"\0{check.user}\0{secret}")
        if any(word in error.detail for word in (secret, _encoded(secret), both)):
            raise ProbeError(error.step, error.detail[:3], error.verdict) from None
        raise


async def _authenticate(dialogue: Dialogue, user: str, secret: str) -> None:
    ways = dialogue.extensions.get("AUTH", ())
    if "PLAIN" in ways:
        both = _encoded(f"\0{user}\0{secret}")
        await dialogue.ask("auth", f"AUTH PLAIN {both}", good="235")
    elif "LOGIN" in ways:
        await dialogue.ask("auth", "AUTH LOGIN", good="334")
        await dialogue.ask("auth", _encoded(user), good="334")
        await dialogue.ask("auth", _encoded(secret), good="235")
    else:
        raise ProbeError("auth", "the server offers neither AUTH PLAIN nor LOGIN")


def _encoded(text: str) -> str:
    return b64encode(text.encode()).decode("ascii")
