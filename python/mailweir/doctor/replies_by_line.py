"""Replies of a server (RFC 5321, 4.2), line by line and with the time that each part took.

Used by `conversation`. A greeting counts as one by the rule of the checks
(`health.probes.reply`). What is given out is fit to be shown: here is where a server's words come
in.
"""

import asyncio
import time

from mailweir.doctor.reply_words import TimedReply
from mailweir.foreign import shown_bytes
from mailweir.health.probes.reply import Greeting, greeting

# Bytes of a line, and of a whole reply; who says more isn't listened to.
LONGEST_LINE = 2048
_MOST = 64 << 10
_CODE = 3  # digits
_SHOWN_OF_NONSENSE = 80


class NotSmtpError(Exception):
    """What a server says is no reply; `str` of it says why, fit to be shown."""


async def reply(reader: asyncio.StreamReader, *, opens: bool = False) -> TimedReply:
    """The next reply; with `opens` it is held to what counts as a greeting. Waits for as long as it
    takes: its caller cancels.

    Raises NotSmtpError; EOFError where the server closes; OSError.
    """
    began = time.monotonic()
    first = 0.0
    taken = 0
    lines: list[str] = []
    while True:
        line = await _line(reader)
        if not lines:
            first = time.monotonic()
            if opens and greeting(line) is Greeting.NONSENSE:
                raise NotSmtpError(f"no SMTP: {shown_bytes(line, _SHOWN_OF_NONSENSE)}")
        taken += len(line)
        code, between = line[:_CODE], line[_CODE : _CODE + 1]
        if len(code) < _CODE or not (code.isdigit() and code.isascii()):
            raise NotSmtpError(f"no reply: {shown_bytes(line, _SHOWN_OF_NONSENSE)}")
        if taken > _MOST:
            raise NotSmtpError("a reply without an end")
        lines.append(shown_bytes(line[_CODE + 1 :].strip()))
        if between != b"-":
            paused = time.monotonic() - first
            return TimedReply(int(code), tuple(lines), first - began, paused)


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        line = await reader.readline()
    except ValueError:  # longer than the reader's limit
        raise NotSmtpError("a line without an end") from None
    if not line:
        raise EOFError
    return line
