"""A session of ours with an SMTP server, from its greeting to its end: what all probes by SMTP
are made of.

It leaves no trace in the server's log: nothing is said before the greeting is whole (postscreen
sends a part of one and looks who talks), QUIT is said and its answer awaited, also after a failure,
and TLS ends with its own word. Not aiosmtplib: a greeting is read here by the rule of sessions
(`reply`), and bytes of any kind are shown and never decoded.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from ssl import SSLContext, SSLObject

from mailweir.health.probes import tls
from mailweir.health.probes.bytestream import ByteStream, opened
from mailweir.health.probes.dial import LocalError, ProbeError, Progress, connect
from mailweir.health.probes.reply import Greeting, NoReplyError, Replies, Reply
from mailweir.health.target import Speech, Target
from mailweir.state.desired import Health

# What a server says that is there, and wants no new sessions for now: it is about to stop or has
# too many (421), or mail can't be taken for the moment: 452 is a full disk. RFC 5321, 4.2.2.
_NOT_NOW = ("421", "450", "451", "452")
# Seconds that the answer to QUIT is waited for.
_COURTESY = 5.0


class Dialogue:
    """What is said to a server, and what it answers. Every method raises ProbeError at its step
    where the answer isn't good.
    """

    def __init__(self, sock: socket.socket, stream: ByteStream, progress: Progress) -> None:
        self._sock = sock
        self._stream = stream
        self._replies = Replies(stream)
        self._progress = progress
        # From its greeting on, until QUIT was said or TLS has failed.
        self._is_listening = False
        self._name = ""
        self.extensions: dict[str, tuple[str, ...]] = {}

    @property
    def tls(self) -> SSLObject | None:
        """Its state, once it has begun."""
        return self._stream.tls

    async def begin_tls(self, context: SSLContext, name: str | None) -> None:
        """TLS on the connection as it is."""
        self._progress.step = "tls"
        if self._replies.holds_more():
            raise ProbeError("tls", "the server said more behind its answer to STARTTLS")
        was_listening, self._is_listening = self._is_listening, False
        with tls.failures():
            await self._stream.begin_tls(context, name)
        self._is_listening = was_listening

    async def greeting(self) -> None:
        """Wait for it."""
        self._progress.step = "greeting"
        verdict, reply = await self._replies.greeting()
        self._is_listening = True
        if verdict is not Greeting.ACCEPTS:
            raise refused("greeting", reply)

    async def ehlo(self, name: str | None) -> None:
        """Say it, as `name` or by our address (RFC 5321, 4.1.3): servers that look names up, or
        want them to have a dot, refuse most names that a machine calls itself, and none of them
        the address that they see.
        """
        self._name = name or self._name or _literal(self._sock)
        reply = await self.ask("ehlo", f"EHLO {self._name}")
        words = [line.decode("ascii", "replace").upper().split() for line in reply.lines[1:]]
        self.extensions = {first: tuple(rest) for first, *rest in filter(None, words)}

    async def starttls(self, context: SSLContext, name: str | None) -> None:
        """From plain text to TLS, and EHLO again."""
        if "STARTTLS" not in self.extensions:
            raise ProbeError("starttls", "the server doesn't offer STARTTLS")
        await self.ask("starttls", "STARTTLS", good="220")
        await self.begin_tls(context, name)
        await self.ehlo(None)

    async def ask(self, step: str, command: str, *, good: str = "2") -> Reply:
        """Say a line; the reply, whose code has to begin with `good`."""
        self._progress.step = step
        self._stream.write(f"{command}\r\n".encode("ascii"))
        reply = await self._replies.reply()
        if not reply.code.startswith(good):
            raise refused(step, reply)
        return reply

    async def leave(self) -> None:
        """QUIT, and its answer; whatever that is. Nothing before a greeting."""
        if not self._is_listening:
            return
        with suppress(NoReplyError, EOFError, OSError):
            self.say_quit()
            await self._replies.reply()

    def say_quit(self) -> None:
        """Once, where the server has greeted."""
        if self._is_listening:
            self._is_listening = False
            self._stream.write(b"QUIT\r\n")


async def _leave(dialogue: Dialogue) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_COURTESY):
            await dialogue.leave()


@asynccontextmanager
async def conversing(
    target: Target, progress: Progress, context: SSLContext | None = None
) -> AsyncIterator[Dialogue]:
    """A session with the server, greeted, and in TLS where that comes first: then by `context`, or
    whatever its certificate is. Within, whatever is wrong comes out as ProbeError at the step that
    `progress` is at.
    """
    sock = await connect(target)
    stream = await opened(sock)
    dialogue = Dialogue(sock, stream, progress)
    try:
        with _failures(progress):
            if target.speech is Speech.SMTPS:
                await dialogue.begin_tls(context or tls.ANY, target.check.name)
            await dialogue.greeting()
            yield dialogue
        progress.step, progress.passed = "quit", not progress.awaits_more
        await _leave(dialogue)
    except ProbeError as error:
        progress.failed = error
        await _leave(dialogue)
        raise
    except LocalError:
        # A file that can't be read is no fault of the server's: it isn't to note a lost connection.
        await _leave(dialogue)
        raise
    except asyncio.CancelledError:
        # The check is given up: its server reads QUIT when it gets there.
        dialogue.say_quit()
        raise
    finally:
        stream.close()


def refused(step: str, reply: Reply) -> ProbeError:
    """What comes of a reply that isn't good."""
    verdict = Health.DRAIN if reply.code in _NOT_NOW else Health.DOWN
    return ProbeError(step, reply.text, verdict)


def _literal(sock: socket.socket) -> str:
    """The address that a connection comes from, as SMTP writes it."""
    host: str = sock.getsockname()[0]
    return f"[IPv6:{host}]" if sock.family == socket.AF_INET6 else f"[{host}]"


@contextmanager
def _failures(progress: Progress) -> Iterator[None]:
    """Those of a connection as ProbeError."""
    try:
        yield
    except NoReplyError as error:
        raise ProbeError(progress.step, str(error)) from None
    except EOFError:
        raise ProbeError(progress.step, "connection closed by the server") from None
    except TimeoutError as error:
        if error.errno is None:
            raise  # the deadline's
        raise ProbeError(progress.step, _cause(error)) from None
    except OSError as error:
        raise ProbeError(progress.step, _cause(error)) from None


def _cause(error: OSError) -> str:
    reset = isinstance(error, ConnectionResetError)
    return f"connection {'reset' if reset else 'closed'} by the server"
