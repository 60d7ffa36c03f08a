"""How long a server is waited for, whom it is trusted by, and how many sessions it is asked for."""

import asyncio
import errno
from pathlib import Path

import pytest

from mailweir.config.address import parse_server
from mailweir.config.words import Proxy
from mailweir.doctor import server_looks, trust
from mailweir.doctor.conversation import Asked, Dial, talk
from mailweir.doctor.opening import Opening
from mailweir.doctor.reply_words import TimedReply
from mailweir.doctor.server_looks import look
from mailweir.doctor.sessions_heard import AtOnce, Heard
from unit.doctor.subjects import closed, subject


@pytest.mark.parametrize(
    ("greeting", "check", "waited"), [(15.0, 15.0, 60.0), (120.0, 15.0, 125.0), (15.0, 90.0, 95.0)]
)
async def test_how_long_a_greeting_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, greeting: float, check: float, waited: float
) -> None:
    sessions: list[tuple[Dial, Asked]] = []

    async def talk(dial: Dial, opening: Opening, asked: Asked) -> Heard:
        sessions.append((dial, asked))
        return closed()

    monkeypatch.setattr(server_looks, "talk", talk)
    file = Path("/ca.pem")
    await look(subject(greeting=greeting, check_timeout=check, ca=file), None, 0)
    # Then it is asked with headers, which are guesses.
    assert [dial.greeting for dial, _ in sessions] == [waited, 15.0, 15.0]
    assert {asked.ca for _, asked in sessions} == {file}


@pytest.mark.parametrize(
    ("most", "checks", "takes", "at_once"),
    [
        (3, 1, 9, AtOnce(4, 4, None)),
        (3, 0, 9, AtOnce(3, 3, None)),
        # Its own limit is that of clients: then a check finds no place.
        (3, 1, 3, AtOnce(4, 3, TimedReply(421, ("too many connections",)))),
        (None, 1, 60, AtOnce(51, 51, None)),
        (60, 1, 60, AtOnce(51, 51, None)),
    ],
)
async def test_how_many_sessions_it_is_asked_for(
    most: int | None, checks: int, takes: int, at_once: AtOnce
) -> None:
    now = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now
        now += 1
        greeting = b"220 mx.test ESMTP Postfix" if now <= takes else b"421 too many connections"
        writer.write(greeting + b"\r\n")
        while line := await reader.readline():
            writer.write(b"221 bye\r\n" if line == b"QUIT\r\n" else b"250 ok\r\n")
            if line == b"QUIT\r\n":
                break
        now -= 1
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        changed = {"address": parse_server(f"127.0.0.1:{port}"), "max_sessions": most}
        server = subject().server.model_copy(update=changed)
        looked = await look(subject(server=server, checks=checks), None, 0)
    assert looked.at_once is not None
    said = looked.at_once.refused
    assert (looked.at_once.wanted, looked.at_once.opened) == (at_once.wanted, at_once.opened)
    assert (said and str(said)) == (at_once.refused and str(at_once.refused))


async def test_a_session_trusts_whom_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[Path | None] = []

    def context(*, verify: bool, ca: Path | None) -> None:
        files.append(ca)
        raise OSError(errno.ENOENT, "no TLS in this test")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"221 bye\r\n")
        writer.close()

    monkeypatch.setattr(trust, "context", context)
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        dial = Dial(parse_server(f"127.0.0.1:{port}"), None, 5.0, 5.0)
        await talk(dial, Opening(Proxy.OFF), Asked(tls_first=True, ca=Path("/ca.pem")))
    assert files == [Path("/ca.pem")]
