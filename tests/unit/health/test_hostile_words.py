"""Replies that are made to do harm where they are shown: on a terminal, a page, in a log."""

import json
from collections.abc import Callable
from random import Random

import pytest

from harness.scale import count
from mailweir.admin.text import event
from mailweir.foreign import MOST
from mailweir.health.probes.bytestream import ByteStream
from mailweir.health.probes.reply import Greeting, NoReplyError, Replies
from mailweir.journal import SIZE, Journal

_REPLIES = count(2_000, 10_000)
_CODES = (b"220", b"250", b"421", b"554", b"55", b"", b"9\xb9\xb2")
_BETWEEN = (b" ", b"-", b"", b"\t", b"\0")
_ENDS = (b"\r\n", b"\n", b"\r\n.\r\n", b"\n\n", b"")
_PIECES = (
    b"\x1b]0;owned\x07", b"\x1b[2J\x1b[31m", b"\x9b2J", "\x9b31m\u202e\u2066".encode(), b"caf\xe9",
    b"\xff\xfe\xc0\x80", b"<script>alert(1)</script>", b"&quot;\"'\\", b"\0\b\r\x0b\x0c\x7f\x85",
    b"\xed\xa0\x80", b'level=error event="x" y=', b"A" * 3000, "\u05d0\u0600".encode(), b"%s{}",
)  # fmt: skip


def _reply(random: Random) -> bytes:
    """Some lines of anything; often enough a greeting or an answer."""
    lines = []
    for _ in range(random.choice((1, 1, 2, 40))):
        said = b"".join(random.choices(_PIECES, k=random.randrange(4)))
        said += random.randbytes(random.randrange(20))
        parts = random.choice(_CODES), random.choice(_BETWEEN), said, random.choice(_ENDS)
        lines.append(b"".join(parts))
    return b"".join(lines)


async def _told(said: bytes) -> str:
    """What the probe would tell of a server that says this, and nothing more."""
    stream = ByteStream()
    stream.data_received(said)
    stream.eof_received()
    replies = Replies(stream)
    try:
        verdict, reply = await replies.greeting()
        return (reply if verdict is not Greeting.ACCEPTS else await replies.reply()).text
    except NoReplyError as error:
        return str(error)
    except EOFError:
        return ""


async def test_whatever_a_server_says_is_fit_to_be_shown(counted: Callable[[str], None]) -> None:
    random = Random(1)  # noqa: S311 - chooses what is said, keeps no secret
    longest = shown = 0
    for _ in range(_REPLIES):
        told = await _told(_reply(random))
        assert told.isprintable(), told
        assert told.isascii(), told
        longest, shown = max(longest, len(told)), shown + bool(told)
    counted(f"{_REPLIES} replies, {shown} of them told of, {longest} characters at most")
    assert longest <= MOST + len("...")


@pytest.mark.parametrize("said", [b"220 mx\r\n\r\n", b"220 mx\r\n25\r\n", b"220 mx\n2\n"])
async def test_a_code_has_three_digits(said: bytes) -> None:
    assert (await _told(said)).startswith("no reply: ")


def test_a_journal_of_the_longest_words_is_small() -> None:
    """Every event at its longest: what is answered is some hundred bytes of each."""
    journal = Journal()
    for _ in range(SIZE):
        reason = f"greeting: {'x' * MOST}..."
        line: dict[str, object] = {
            "event": "server changed",
            "level": "warning",
            "ts": "T",
            "reason": reason,
        }
        journal.take(None, "warning", line)
    found = journal.since(0)
    assert len(json.dumps(found)) < SIZE * 400
    assert event(found[0]).endswith(f'{"x" * MOST}..."')


def test_a_value_of_an_event_is_one_value() -> None:
    """Whatever a server says begins no other field, on a terminal that shows events."""
    line: dict[str, object] = {"ts": "T", "level": "info", "event": "e"}
    for said, shown in (
        ('x" level=error y="', r'"x\" level=error y=\""'),
        ("a=b", '"a=b"'),
        (r"\x1b", r"\x1b"),
        (r"\x1b ", r'"\\x1b "'),
    ):
        assert event(line | {"reason": said}) == f"T e reason={shown}"
