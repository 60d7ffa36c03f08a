"""Checks a server as a client would meet it: greeting, EHLO, QUIT, 221, FIN.

The name in EHLO is `healthcheck.<host>`, so that mail logs show who asks. Greetings
may have several lines and may be delayed (postscreen does both). Ending with QUIT
leaves no "lost connection" in the server's log.
"""

import asyncio

from mailweir.config.address import Address
from mailweir.config.words import Proxy
from mailweir.health.probes.dial import ProbeError, Progress, connect
from mailweir.health.probes.reply import Greeting, NoReplyError, Replies


async def probe(address: Address, progress: Progress, *, kind: Proxy, hostname: str) -> None:
    """Raises ProbeError at connect, greeting or ehlo. A failed QUIT fails nothing."""
    sock = await connect(address, kind)
    progress.step = "greeting"
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        await _converse(Replies(reader), writer, progress, f"healthcheck.{hostname}")
    except ProbeError:
        writer.write(b"QUIT\r\n")  # it speaks SMTP; what it answers isn't waited for
        raise
    except NoReplyError as error:
        raise ProbeError(progress.step, str(error)) from None
    except EOFError:
        raise ProbeError(progress.step, "connection closed by the server") from None
    except OSError as error:
        raise ProbeError(progress.step, _cause(error)) from None
    finally:
        writer.close()


async def _converse(
    replies: Replies, writer: asyncio.StreamWriter, progress: Progress, name: str
) -> None:
    verdict, said = await replies.greeting()
    if verdict is not Greeting.ACCEPTS:
        raise ProbeError("greeting", said)
    progress.step = "ehlo"
    said = await _ask(replies, writer, f"EHLO {name}")
    if not said.startswith("2"):
        raise ProbeError("ehlo", said)
    progress.step = "quit"
    progress.passed = True
    try:
        await _ask(replies, writer, "QUIT")
    except (NoReplyError, EOFError, OSError):
        return


async def _ask(replies: Replies, writer: asyncio.StreamWriter, command: str) -> str:
    writer.write(f"{command}\r\n".encode("ascii"))
    return await replies.text()


def _cause(error: OSError) -> str:
    reset = isinstance(error, ConnectionResetError)
    return f"connection {'reset' if reset else 'closed'} by the server"
