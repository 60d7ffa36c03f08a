"""One session with a server, as a client or a check has it, and all that was heard in it.

Called by `server_looks`. No mail is ever sent: a recipient is named and the transaction reset. Each
session ends with QUIT, and the answer is waited for. What fails is told as a part of what was
heard; only cancellation is raised.
"""

import asyncio
import os
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mailweir.config.address import Address
from mailweir.config.units import format_duration
from mailweir.doctor import trust
from mailweir.doctor.certificates import BadChain, Certificate
from mailweir.doctor.mta import Mta
from mailweir.doctor.opening import IP, Opening
from mailweir.doctor.reply_words import TimedReply
from mailweir.doctor.sessions_heard import RECIPIENT, Broken, Heard, literal
from mailweir.foreign import shown, shown_bytes
from mailweir.health.probes.bytestream import ByteStream, opened
from mailweir.health.probes.reply import NoReplyError, Replies

# Seconds. Servers look names up before they answer to a recipient.
_ANSWER = 30.0
# For the answer to QUIT, and for an end of TLS.
_FAREWELL = 5.0
# A server closes first, behind its answer to QUIT (RFC 5321, 4.1.1.10).
_CLOSES = 1.0
# RFC 5321, 4.2.3; RFC 3207 has 220 for STARTTLS, and 530 for who has to say that first.
_GOODBYE, _READY, _TLS_FIRST = 221, 220, 530


@dataclass(frozen=True, slots=True)
class Dial:
    """Where a server is, from which address it is dialled (None: the one that the route gives), and
    for how many seconds a connect and a greeting are waited for.
    """

    address: Address
    source: IP | None
    connect: float
    greeting: float


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked beyond a greeting and EHLO.

    `helo` is the name that is said; None is the client's address. `recipient`: whether a foreign
    one is taken. `tls_first` is how a session begins, not a question; `ca` is the file of those who
    are trusted then (None: whom the system trusts). `who`: HELP, where nothing else said who the
    server is.
    """

    helo: str | None = None
    recipient: bool = False
    tls: bool = False
    tls_first: bool = False
    verify: bool = True
    ca: Path | None = None
    who: bool = True


async def talk(dial: Dial, opening: Opening, asked: Asked) -> Heard:
    """Have one session."""
    try:
        sock = await connected(dial)
    except OSError as error:
        return Heard(opening, broken=Broken("connect", _how(error, dial.connect)))
    # Not getpeername: it may have been reset by now.
    own, there = sock.getsockname()[:2], (str(dial.address.ip), dial.address.port)
    stream = await opened(sock)
    helo = asked.helo or literal(str(opening.client or own[0]))
    talking = _Talking(dial, opening, asked, own[0], helo, stream)
    try:
        await talking.through(opening.header(own, there))
    except Exception as error:
        # Of a bug too, ours or a library's: it mustn't end what is said of other servers.
        talking.breaks(error)
    finally:
        await talking.leave()
    return talking.heard()


async def connected(dial: Dial) -> socket.socket:
    """A connection, not yet used. Raises OSError, TimeoutError among them."""
    family = socket.AF_INET6 if dial.address.ip.version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if dial.source is not None:
            sock.bind((str(dial.source), 0))
        there = (str(dial.address.ip), dial.address.port)
        async with asyncio.timeout(dial.connect):
            await asyncio.get_running_loop().sock_connect(sock, there)
    except BaseException:
        sock.close()
        raise
    return sock


def _how(error: Exception, waited: float) -> str:
    """A session's early end, in words that are fit to be shown."""
    match error:
        case ssl.SSLCertVerificationError():
            return "the certificate isn't trusted"
        case ssl.SSLError():
            return f"TLS failed: {shown(error.reason or 'no reason')}"
        case TimeoutError(errno=None):
            return f"no answer within {format_duration(waited)}"
        case OSError(errno=int(number)):
            # Not strerror: asyncio puts its own words there.
            return os.strerror(number)
        case NoReplyError():
            return str(error)
        case EOFError() | OSError():
            return "connection closed by the server"
        case _:
            return shown(f"internal error: {error!r}")


@dataclass(slots=True)
class _Talking:
    """A session under way."""

    _dial: Dial
    _opening: Opening
    _asked: Asked
    _own: str
    _helo: str
    _stream: ByteStream
    _replies: Replies = field(init=False)
    _step: str = "proxy"
    _waited: float = 0.0
    _certificate: Certificate | BadChain | None = None
    _said: dict[str, TimedReply] = field(default_factory=dict)
    _broken: Broken | None = None

    def __post_init__(self) -> None:
        self._replies = Replies(self._stream)

    def breaks(self, error: Exception) -> None:
        """It ends before its time."""
        if isinstance(error, ssl.SSLCertVerificationError):
            self._certificate = trust.bad_chain(error)
        self._broken = Broken(self._step, _how(error, self._waited))

    def heard(self) -> Heard:
        """What came of it so far."""
        return Heard(
            self._opening,
            self._own,
            self._helo,
            self._said.get("greeting"),
            self._said.get("ehlo"),
            self._said.get("recipient"),
            self._said.get("help"),
            self._certificate,
            self._broken,
        )

    async def through(self, header: bytes) -> None:
        """From the header to the last answer before QUIT. Raises what ends it early."""
        if header:
            self._stream.write(header)
        if self._asked.tls_first:
            await self._wrap("tls", self._dial.greeting)
        if not (await self._hear("greeting", self._dial.greeting, opens=True)).good:
            return
        if not (await self._ask("ehlo", f"EHLO {self._helo}")).good:
            return
        if self._asked.recipient:
            await self._name_recipient()
        if self._asked.who and self.heard().mta.mta is Mta.UNKNOWN:
            await self._ask("help", "HELP")
        if (self._asked.tls or self._wants_tls()) and self._said["ehlo"].offers("STARTTLS"):
            await self._start_tls()

    async def leave(self) -> None:
        """QUIT, its answer, the end: a server counts a session of ours until it has closed it."""
        with suppress(OSError, EOFError, NoReplyError):
            async with asyncio.timeout(_FAREWELL):
                self._stream.write(b"QUIT\r\n")
                while int((await self._replies.reply()).code) != _GOODBYE:
                    pass  # to what was said before
        with suppress(OSError):
            async with asyncio.timeout(_CLOSES):
                while await self._stream.read():
                    pass
        self._stream.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await self._stream.gone()

    async def _name_recipient(self) -> None:
        sender = await self._ask("sender", "MAIL FROM:<>")
        if sender.good:
            await self._ask("recipient", f"RCPT TO:<{RECIPIENT}>")
            await self._ask("reset", "RSET")
        else:
            self._said["recipient"] = sender

    async def _start_tls(self) -> None:
        again = self._wants_tls()
        ready = await self._ask("starttls", "STARTTLS")
        if ready.code != _READY:
            raise NoReplyError(str(ready))
        await self._wrap("starttls", _ANSWER)
        await self._ask("ehlo", f"EHLO {self._helo}")
        if again:
            await self._name_recipient()

    def _wants_tls(self) -> bool:
        """Whether it takes no recipient without."""
        said = self._said.get("recipient")
        return said is not None and said.code == _TLS_FIRST

    async def _wrap(self, step: str, limit: float) -> None:
        self._step, self._waited = step, limit
        context = trust.context(verify=self._asked.verify, ca=self._asked.ca)
        async with asyncio.timeout(limit):
            await self._stream.begin_tls(context, self.heard().name or None)
        tls = self._stream.tls
        self._certificate = trust.certificate(tls) if tls else None
        # What was said before TLS counts no more (RFC 3207, 4.2).
        self._replies = Replies(self._stream)

    async def _ask(self, step: str, command: str) -> TimedReply:
        self._stream.write(f"{command}\r\n".encode("ascii"))
        return await self._hear(step, _ANSWER)

    async def _hear(self, step: str, limit: float, *, opens: bool = False) -> TimedReply:
        self._step, self._waited = step, limit
        async with asyncio.timeout(limit):
            found = await timed_reply(self._replies, opens=opens)
        self._said[step] = found
        return found


async def timed_reply(replies: Replies, *, opens: bool = False) -> TimedReply:
    """The next reply, fit to be shown; with `opens` it is held to what counts as a greeting. Waits
    for as long as it takes: its caller cancels.

    Raises NoReplyError; EOFError where the server closes; OSError.
    """
    began = time.monotonic()
    said = (await replies.greeting())[1] if opens else await replies.reply()
    lines = tuple(shown_bytes(line.strip()) for line in said.lines)
    first = time.monotonic() - began - said.paused
    return TimedReply(int(said.code), lines, first, said.paused)
