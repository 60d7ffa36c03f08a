"""Checks a server as a client would meet it: greeting, EHLO, QUIT, 221, FIN.

The name in EHLO is `healthcheck.<host>`, so that mail logs show who asks. Greetings
may have several lines and may be delayed (postscreen does both). Ending with QUIT
leaves no "lost connection" in the server's log.
"""

import aiosmtplib

from mailweir.config.address import Address
from mailweir.config.words import Proxy
from mailweir.health.probes.dial import ProbeError, Progress, connect


async def probe(address: Address, progress: Progress, *, kind: Proxy, hostname: str) -> None:
    """Raises ProbeError at connect, greeting or ehlo. A failed QUIT fails nothing."""
    name = f"healthcheck.{hostname}"
    # No time-out of its own: the whole check has one deadline.
    client = aiosmtplib.SMTP(local_hostname=name, start_tls=False, timeout=None)
    sock = await connect(address, kind)
    progress.step = "greeting"
    try:
        await client.connect(sock=sock)
        progress.step = "ehlo"
        await client.ehlo()
        progress.step = "quit"
        progress.passed = True
        await _quit(client)
    except aiosmtplib.SMTPResponseException as error:
        raise ProbeError(progress.step, _reply(error)) from None
    except (aiosmtplib.SMTPException, OSError) as error:
        raise ProbeError(progress.step, _cause(error)) from None
    finally:
        # The transport owns the socket by now: closing that here as well might close a
        # descriptor that is somebody else's already.
        client.close()


async def _quit(client: aiosmtplib.SMTP) -> None:
    try:
        await client.quit()
    except (aiosmtplib.SMTPException, OSError):
        return


def _reply(error: aiosmtplib.SMTPResponseException) -> str:
    text = " ".join(error.message.split())
    # aiosmtplib's own code for what is no reply at all.
    return text if error.code < 0 else f"{error.code} {text}".rstrip()


def _cause(error: Exception) -> str:
    reset: BaseException | None = error
    while reset is not None:
        if isinstance(reset, ConnectionResetError):
            return "connection reset by the server"
        reset = reset.__cause__
    return "connection closed by the server"
