"""Checks that a server accepts connections.

Where the pool speaks SMTP the connection still ends as a mail server likes it: in TLS where that
comes first, the greeting is read if it comes soon and QUIT is said, so that its log stays clean.
The verdict doesn't depend on that.
"""

import asyncio
import socket
from contextlib import suppress

from mailweir.health.probes import tls
from mailweir.health.probes.bytestream import opened
from mailweir.health.probes.dial import ProbeError, Progress, connect
from mailweir.health.probes.dialogue import Dialogue
from mailweir.health.probes.reply import NoReplyError
from mailweir.health.target import Speech, Target

_COURTESY = 10.0  # seconds for all of it; postscreen's greeting takes 6


async def probe(target: Target, progress: Progress) -> None:
    """Raises ProbeError at connect."""
    sock = await connect(target)
    progress.passed = True
    if target.speech is Speech.OPAQUE:
        sock.close()
        return
    with suppress(ProbeError, NoReplyError, EOFError, OSError):
        async with asyncio.timeout(_COURTESY):
            await _end(sock, target, progress)


async def _end(sock: socket.socket, target: Target, progress: Progress) -> None:
    stream = await opened(sock)
    dialogue = Dialogue(sock, stream, progress)
    try:
        if target.speech is Speech.SMTPS:
            await dialogue.begin_tls(tls.ANY, target.check.name)
        with suppress(ProbeError):  # it greeted, with whatever
            await dialogue.greeting()
        await dialogue.leave()
    finally:
        stream.close()
