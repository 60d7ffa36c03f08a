"""Replies of a server (RFC 5321, 4.2) as they come. Used by the probes that speak SMTP, and by the
doctor.

A greeting is read by the same rule as for sessions (rust/core/src/smtp/greeting.rs): by one that
is more lenient here, a server would pass its checks and fail every session; by one that is
stricter it would be kept from sessions that it serves.
"""

import time
from enum import StrEnum
from typing import NamedTuple

from mailweir.foreign import shown_bytes
from mailweir.health.probes.bytestream import ByteStream

# The longest first line of a greeting that is taken for one. RFC 5321, 4.5.3.1.5 has 512.
_LONGEST_LINE = 2048
_MOST = 64 << 10  # bytes of a whole reply; who says more isn't listened to
_CODE = 3  # digits
_SHOWN_OF_NONSENSE = 80


class Greeting(StrEnum):
    """What the first bytes of a server are."""

    INCOMPLETE = "incomplete"  # the first line isn't whole
    ACCEPTS = "accepts"
    REFUSES_NOW = "refuses_now"
    REFUSES = "refuses"
    NONSENSE = "nonsense"  # no SMTP


_VERDICTS = {b"2": Greeting.ACCEPTS, b"4": Greeting.REFUSES_NOW, b"5": Greeting.REFUSES}


class Reply(NamedTuple):
    """What a server answered."""

    code: str  # three digits
    text: str  # code and lines in one, fit to be shown
    lines: tuple[bytes, ...]  # without codes
    paused: float  # seconds between its first line and its last


class NoReplyError(Exception):
    """What a server says is no reply; `str` of it says why."""


def greeting(said: bytes) -> Greeting:
    """What the beginning of a greeting is, by its first line. Pure."""
    line, newline, _ = said.partition(b"\n")
    if not _digits(line[:_CODE]) or len(line) > _LONGEST_LINE:
        return Greeting.NONSENSE
    if not newline:
        return Greeting.INCOMPLETE
    line = line.rstrip(b"\r")
    if len(line) < _CODE or line[_CODE : _CODE + 1] not in (b"", b" ", b"-"):
        return Greeting.NONSENSE
    return _VERDICTS.get(line[:1], Greeting.NONSENSE)


class Replies:
    """Reads one reply after the other. Waits for as long as it takes: its caller cancels.

    The text that it gives out is fit to be shown: here is where servers' words come in.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._said = b""
        # Where the next line begins in it.
        self._at = 0

    async def greeting(self) -> tuple[Greeting, Reply]:
        """What a greeting is, and all of it. Raises NoReplyError; EOFError where there is none."""
        while (verdict := greeting(self._said)) is Greeting.INCOMPLETE:
            await self._more()
        if verdict is Greeting.NONSENSE:
            raise NoReplyError(f"no SMTP: {shown_bytes(self._said, _SHOWN_OF_NONSENSE)}")
        return verdict, await self.reply()

    def holds_more(self) -> bool:
        """Whether something came behind the last reply."""
        return self._at < len(self._said)

    async def reply(self) -> Reply:
        """The next reply. Raises as `greeting` does."""
        taken, began = 0, 0.0
        said: list[bytes] = []
        while True:
            line = await self._line()
            taken += len(line)
            began = began or time.monotonic()
            if len(line) < _CODE or not _digits(line[:_CODE]):
                raise NoReplyError(f"no reply: {shown_bytes(line, _SHOWN_OF_NONSENSE)}")
            said.append(line[_CODE + 1 :])
            if line[_CODE : _CODE + 1] != b"-":
                code = line[:_CODE]
                text = shown_bytes(b" ".join([code, *b" ".join(said).split()]))
                return Reply(code.decode("ascii"), text, tuple(said), time.monotonic() - began)
            if taken > _MOST:
                raise NoReplyError("a reply without an end")

    async def _line(self) -> bytes:
        while (end := self._said.find(b"\n", self._at)) < 0:
            if len(self._said) - self._at > _MOST:
                raise NoReplyError("a line without an end")
            await self._more()
        line = self._said[self._at : end]
        self._at = end + 1
        return line

    async def _more(self) -> None:
        piece = await self._stream.read()
        if not piece:
            raise EOFError
        # What was read isn't needed any more. Not for each line: a reply has thousands of them.
        self._said = self._said[self._at :] + piece
        self._at = 0


def _digits(code: bytes) -> bool:
    return code.isdigit() or not code
