"""Asks an agent on the server how it is: a line at a port of its own, in HAProxy's words.

As HAProxy's configuration manual has it for `agent-check`; `agent_words` says what they mean.
"""

import re
from dataclasses import replace

from mailweir.config.words import Proxy
from mailweir.foreign import shown_bytes
from mailweir.health.probes.bytestream import ByteStream, opened
from mailweir.health.probes.dial import Learned, LocalError, ProbeError, Progress, connect
from mailweir.health.target import Target

_MOST = 1024  # bytes of an answer
_END = re.compile(rb"[\r\n]")


async def probe(target: Target, progress: Progress) -> None:
    """The line is in `progress.learned`. Raises LocalError where there is no answer: that an
    agent is gone says nothing of the server.
    """
    progress.conclusive = False
    try:
        sock = await connect(replace(target, proxy=Proxy.OFF))
    except ProbeError as error:
        raise LocalError(f"agent: {error.detail}") from None
    progress.step = "agent"
    stream = await opened(sock)
    try:
        said = await _line(stream)
    except OSError:
        said = b""
    finally:
        stream.close()
    if not said.strip():
        raise LocalError("agent: it said nothing")
    progress.learned = Learned(agent=shown_bytes(said))


async def _line(stream: ByteStream) -> bytes:
    said = b""
    while len(said) < _MOST and (piece := await stream.read()):
        said += piece
        if _END.search(said):
            break
    return _END.split(said, maxsplit=1)[0][:_MOST]
