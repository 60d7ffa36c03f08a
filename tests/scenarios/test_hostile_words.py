"""Servers whose words are made to do harm where they are shown: nothing of them gets to a terminal,
the page, the log or the metrics as it was said, nobody stumbles over it, and none of it is long.
"""

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count as numbers
from pathlib import Path
from random import Random

from harness.mailweir.run import Mailweir, configuration
from harness.scale import count
from harness.servers.scripted import Stream, serving
from harness.waiting import LIMIT, until
from scenarios.conftest import Start

_SERVERS = 20
_SAID = count(1_000, 10_000)  # greetings and replies to EHLO
# A check each tenth of a second of each server; some machines are slow.
_LIMIT = LIMIT + _SAID / 50
_WORDS = (
    b"\x1b]0;owned\x07", b"\x1b[2J\x1b[31m", b"\x9b2J", "\x9b31m\u202e\u2066".encode(), b"caf\xe9",
    b"\xff\xfe\xc0\x80", b"<script>alert(1)</script>", b"\0\b\x0b\x0c\x7f\x85", b"\xed\xa0\x80",
    b'" level=error event=forged y="', b"A" * 3000,
)  # fmt: skip
# What a terminal acts on or hides, newlines apart; of the page, what a browser would take for HTML.
_UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\xa0\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufffd]")


def test_nothing_gets_through(tmp_path: Path, start: Start, counted: Callable[[str], None]) -> None:
    said = numbers()
    random = Random(1)  # noqa: S311 - chooses what is said, keeps no secret

    def hostile(code: bytes) -> bytes:
        next(said)
        words = b" ".join(random.choices(_WORDS, k=random.randrange(1, 4)))
        lines = [code + b"-" + words] * random.choice((0, 0, 3, 40))
        return b"\r\n".join([*lines, code + b" " + words, b""])

    def serve(stream: Stream) -> None:
        how = random.randrange(4)
        if how == 0:
            stream.send(b"220 fine\r\n")
            stream.line()
            stream.send(hostile(b"550"))
        elif how == 1:
            stream.send(hostile(b"220"))
            stream.line()
            stream.send(hostile(b"250"))
        else:
            stream.send(hostile(b"554" if how == 2 else b"\x1b[31"))
        stream.line()

    with ExitStack() as exits:
        servers = {f"s{n}": exits.enter_context(serving(serve)) for n in range(_SERVERS)}
        pace = {"every": "100ms", "fast": "100ms", "rise": 1, "fall": 1}
        config = configuration(tmp_path, servers, check=pace)
        config["pools"]["farm"]["more_checks"] = {
            "recipient": {"kind": "rcpt", "rcpt_to": "a@mx.test", **pace},
            "tls": {"kind": "starttls", "verify": "none", **pace},
            "extensions": {"kind": "ehlo", "requires": ["SIZE"], **pace},
        }
        balancer = start(config)
        looks = 0

        def is_enough() -> bool:
            nonlocal looks
            looks += 1
            _look(balancer)
            return next(said) > _SAID + looks

        until(is_enough, f"{_SAID} of their words", limit=_LIMIT)
        longest, seconds = _events(balancer)
        _is_plain(balancer.process.err)
        lines = balancer.process.err.splitlines()
    assert "Traceback" not in balancer.process.err
    assert all(line.startswith("ts=") for line in lines)
    counted(
        f"{_SAID} greetings and replies in {len(lines)} lines of the log, looked at {looks} times;"
        f" all events: {longest / 1024:.0f} KiB in {seconds:.3f} s"
    )


def _look(balancer: Mailweir) -> None:
    """At all places where words of servers are shown."""
    for command in (
        ["servers"],
        ["servers", "farm/s0"],
        ["events", "--limit", "50"],
        ["status"],
        ["explain", "127.0.0.1"],
    ):
        shown = balancer.command(*command)
        assert (shown.returncode, shown.stderr) == (0, ""), command
        _is_plain(shown.stdout)
    for route in ("/", "/servers/farm/s0"):
        page = balancer.page(route)
        _is_plain(page)
        assert "<script" not in page
    _is_plain(balancer.page("/metrics"))


def _is_plain(text: str) -> None:
    found = _UNSEEN.search(text)
    assert found is None, text[max(0, found.start() - 80) : found.end() + 20]


def _events(balancer: Mailweir) -> tuple[int, float]:
    """How large the answer with all events is, and how long it takes."""
    began = time.monotonic()
    answer = balancer.page("/api/v1/events")
    return len(answer), time.monotonic() - began
