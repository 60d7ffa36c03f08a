"""What two processes say to each other while the one takes over from the other: lines of JSON on a
pair of sockets, the first being in the environment of the next process.

The two may be of different versions: a field that one of them doesn't know is passed over, and so
is a message.
"""

import asyncio
import socket

from msgspec import DecodeError, Struct, ValidationError
from msgspec.json import Decoder, encode

from mailweir.spec import Elsewhere

# Operators may deny ten thousand prefixes.
_LONGEST = 16 * 1024 * 1024


class Inheritance(Struct, frozen=True):
    """What the next process has from the beginning, by descriptors. In `VARIABLE`, as JSON."""

    pid: int  # of the one before
    channel: int
    lock: int
    listening: tuple[int, ...]
    admin: dict[str, int]  # listening sockets by their paths, and TCP's by its address
    stored: tuple[str, ...] = ()  # names in the supervisor's store


VARIABLE = "MAILWEIR_INHERITANCE"


class Prepared(Struct, frozen=True, tag="prepared"):
    """The next process has read its configuration and checked its servers: it could serve."""

    version: str


class Go(Struct, frozen=True, tag="go"):
    """It is to serve, with these words of operators, as `Overrides` has them in JSON. From here on
    this process takes none.
    """

    overrides: str
    role: str = ""  # in a pair, as it was told last, and by whom
    keeper: str = ""


class Serves(Struct, frozen=True, tag="serves"):
    """It accepts sessions, and answers at these addresses of `Inheritance.admin`."""

    admin: tuple[str, ...]


class Released(Struct, frozen=True, tag="released"):
    """What is in the kernel is the next process's; this one doesn't accept any more."""


class Remaining(Struct, frozen=True, tag="remaining"):
    """Sessions that this process has still."""

    sessions: int
    elsewhere: Elsewhere


class End(Struct, frozen=True, tag="end"):
    """The next process ends: this one is to drain as well, or to end now."""

    now: bool


class Reopen(Struct, frozen=True, tag="reopen"):
    """The session log's file was moved away."""


Message = Prepared | Go | Serves | Released | Remaining | End | Reopen


_decoder = Decoder(Message)


class Channel:
    """One end."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        # Made in `open`.
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Begin to listen. Takes the socket over."""
        self._reader, self._writer = await asyncio.open_unix_connection(
            sock=self._socket, limit=_LONGEST
        )

    def say(self, message: Message) -> None:
        """Where nobody listens any more, nothing is said."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message) + b"\n")

    async def hear(self) -> Message | None:
        """The next message; None once the other process is gone."""
        while True:
            try:
                line = await self._reader.readline()
            except (OSError, ValueError):
                return None
            if not line:
                return None
            try:
                return _decoder.decode(line)
            except (ValidationError, DecodeError):
                continue  # of a newer version

    def close(self) -> None:
        """The other end is told."""
        if self._writer is not None:
            self._writer.close()
