"""Checks a server as a client would meet it: greeting, EHLO, QUIT, 221, FIN.

Without a name of its own it says its address in EHLO (RFC 5321, 4.1.3): servers that look names
up, or want them to have a dot, refuse most names that a machine calls itself, and none of them the
address that they see. Greetings may have several lines and may be delayed (postscreen does both).
Ending with QUIT leaves no "lost connection" in the server's log.
"""

import asyncio
import socket

from mailweir.health.probes.dial import ProbeError, Progress
from mailweir.health.probes.reply import Greeting, NoReplyError, Replies


async def probe(sock: socket.socket, progress: Progress, *, helo: str | None) -> None:
    """`sock` is connected, and this closes it. Raises ProbeError at greeting or ehlo. A failed
    QUIT fails nothing.
    """
    progress.step = "greeting"
    name = helo or _literal(sock)
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        await _converse(Replies(reader), writer, progress, name)
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


def _literal(sock: socket.socket) -> str:
    """The address that a connection comes from, as SMTP writes it."""
    host: str = sock.getsockname()[0]
    return f"[IPv6:{host}]" if sock.family == socket.AF_INET6 else f"[{host}]"


async def _ask(replies: Replies, writer: asyncio.StreamWriter, command: str) -> str:
    writer.write(f"{command}\r\n".encode("ascii"))
    return await replies.text()


def _cause(error: OSError) -> str:
    reset = isinstance(error, ConnectionResetError)
    return f"connection {'reset' if reset else 'closed'} by the server"
