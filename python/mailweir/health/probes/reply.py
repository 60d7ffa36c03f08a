"""Replies of a server (RFC 5321, 4.2) as they come. Used by the probe that speaks SMTP.

A greeting is read by the same rule as for sessions (rust/core/src/smtp/greeting.rs): by one that
is more lenient here, a server would pass its checks and fail every session; by one that is
stricter it would be kept from sessions that it serves.
"""

import asyncio
from enum import StrEnum

# The longest first line of a greeting that is taken for one. RFC 5321, 4.5.3.1.5 has 512.
_LONGEST_LINE = 2048
_MOST = 64 << 10  # bytes of a whole reply; who says more isn't listened to
_CODE = 3  # digits


class Greeting(StrEnum):
    """What the first bytes of a server are."""

    INCOMPLETE = "incomplete"  # the first line isn't whole
    ACCEPTS = "accepts"
    REFUSES_NOW = "refuses_now"
    REFUSES = "refuses"
    NONSENSE = "nonsense"  # no SMTP


_VERDICTS = {b"2": Greeting.ACCEPTS, b"4": Greeting.REFUSES_NOW, b"5": Greeting.REFUSES}


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
    """Reads one reply after the other. Waits for as long as it takes: its caller cancels."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._said = b""

    async def greeting(self) -> tuple[Greeting, str]:
        """What a greeting is, and its text. Raises NoReplyError; EOFError where there is none."""
        while (verdict := greeting(self._said)) is Greeting.INCOMPLETE:
            await self._more()
        if verdict is Greeting.NONSENSE:
            raise NoReplyError(f"no SMTP: {self._said[:80]!r}")
        return verdict, await self.text()

    async def text(self) -> str:
        """The next reply, its lines in one, with its code. Raises as `greeting` does."""
        taken = 0
        lines = []
        while True:
            line = await self._line()
            taken += len(line)
            if not _digits(line[:_CODE]):
                raise NoReplyError(f"no reply: {line[:80]!r}")
            lines.append(line[_CODE + 1 :].strip().decode("ascii", "replace"))
            if line[_CODE : _CODE + 1] != b"-":
                code = line[:_CODE].decode("ascii")
                return " ".join([code, *" ".join(lines).split()])
            if taken > _MOST:
                raise NoReplyError("a reply without an end")

    async def _line(self) -> bytes:
        while b"\n" not in self._said:
            if len(self._said) > _MOST:
                raise NoReplyError("a line without an end")
            await self._more()
        line, _, self._said = self._said.partition(b"\n")
        return line

    async def _more(self) -> None:
        piece = await self._reader.read(_MOST)
        if not piece:
            raise EOFError
        self._said += piece


def _digits(code: bytes) -> bool:
    return all(b"0"[0] <= byte <= b"9"[0] for byte in code)
