"""What is asked of `mailweir run`, and what it is told."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from mailweir.ha import asking
from mailweir.ha.asking import Asking
from mailweir.ha.clock import now
from mailweir.ha.machine.facts import BalancerHealth
from mailweir.ha.machine.grace import Grace
from mailweir.ha.machine.operator_words import Said

ANSWER = {
    "pid": 1,
    "started": 1.0,
    "listening": True,
    "ending": False,
    "workers_alive": True,
    "sessions": 3,
    "flows": 2,
    "servers": 4,
    "up": 3,
    "pools_down": ["farm"],
    "paused": "by root",
    "generation": 7,
    "digest": "0011223344556677",
    "words": "8899",
    "reasons": [],
}
WORDS = {
    "digest": ANSWER["words"],
    "words": [
        {"what": "drain farm/x", "until": None},
        {"what": "deny 192.0.2.0/24", "until": 1e9},
        {"what": "juggle farm/x", "until": None},  # a later version's
    ],
}
DIGESTS = {"digest": ANSWER["digest"], "parts": {"drain.quiet": "010203"}}


@asynccontextmanager
async def answering(path: Path, body: str, asked: list[str]) -> AsyncIterator[None]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode().strip())
        others = {"digests": DIGESTS, "words": WORDS}
        other = others.get(asked[-1].split()[1].removeprefix("/api/v1/"))
        told = json.dumps(other) if other else body
        writer.write(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n")
        # In pieces, as a long one comes.
        for at in range(0, len(told), 1 << 14):
            writer.write(told[at : at + (1 << 14)].encode())
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_unix_server(answer, path)
    async with server:
        yield


async def test_what_it_answers_and_is_told(tmp_path: Path) -> None:
    asked: list[str] = []
    watched = Asking(tmp_path / "s", Grace(5.0, 10.0), lambda health: None, lambda: False)
    watched.has_role("active", alarms=0)
    async with answering(tmp_path / "s", json.dumps(ANSWER), asked):
        health = await watched.ask()
        await watched.ask()
        watched.has_role("backup", alarms=0)
        await watched.ask()
        watched.has_role("backup", alarms=2)
        await watched.ask()
    assert health == BalancerHealth(
        ok=True,
        why="no server of farm is up",
        penalty=50,
        up=3,
        servers=4,
        sessions=3,
        paused="by root",
        config_digest=bytes.fromhex("0011223344556677"),
        generation=7,
        parts={"drain.quiet": b"\1\2\3"},
        words=health.words,
    )
    drain, deny = health.words or ()
    assert (drain, deny.what) == (Said("drain farm/x"), "deny 192.0.2.0/24")
    # 2001 is over, by the clock of the pair too.
    assert deny.until is not None
    assert deny.until < now()
    # Its role once, and again only where it is another one.
    get, post = "GET /api/v1/health HTTP/1.0", "POST /api/v1/ha/{}?by=native&alarms={} HTTP/1.0"
    named, said = "GET /api/v1/digests HTTP/1.0", "GET /api/v1/words HTTP/1.0"
    active, backup, ill = (
        post.format(*one) for one in (("active", 0), ("backup", 0), ("backup", 2))
    )
    assert asked == [get, named, said, active, get, get, backup, get, ill]


async def test_a_process_that_tells_no_words(tmp_path: Path) -> None:
    """Of an earlier version: that isn't to say that there are none."""
    earlier = {key: found for key, found in ANSWER.items() if key != "words"}
    watched = Asking(tmp_path / "s", Grace(5.0, 10.0), lambda health: None, lambda: False)
    async with answering(tmp_path / "s", json.dumps(earlier), []):
        health = await watched.ask()
    assert (health.ok, health.words) == (True, None)


async def test_an_answer_of_many_pools(tmp_path: Path) -> None:
    """It comes in pieces, and none of them is taken for the whole."""
    body = json.dumps({**ANSWER, "pools_down": [f"pool-{number}" for number in range(50_000)]})
    watched = Asking(tmp_path / "s", Grace(5.0, 10.0), lambda health: None, lambda: False)
    async with answering(tmp_path / "s", body, []):
        health = await watched.ask()
    assert (health.ok, health.penalty) == (True, 50)


@pytest.mark.parametrize("ending", [False, True])
async def test_who_drains_hears_that_the_addresses_move(tmp_path: Path, *, ending: bool) -> None:
    asked: list[str] = []
    known = asyncio.Event()
    watched = Asking(tmp_path / "s", Grace(5.0, 10.0), lambda health: known.set(), lambda: False)
    async with answering(tmp_path / "s", json.dumps({**ANSWER, "ending": ending}), asked):
        watching = asyncio.create_task(watched.watch())
        await known.wait()
        watching.cancel()
        asked.clear()
        await watched.addresses_move()
    assert asked == ["POST /api/v1/ha/move HTTP/1.0"] * ending


@pytest.mark.parametrize(
    "body",
    [
        "no JSON",
        "[]",
        json.dumps({**ANSWER, "pid": "1"}),
        json.dumps({**ANSWER, "pools_down": 1}),
        json.dumps({**ANSWER, "digest": "xyz"}),
        json.dumps({key: ANSWER[key] for key in ANSWER if key != "up"}),
    ],
)
async def test_what_is_no_answer(tmp_path: Path, body: str) -> None:
    async with answering(tmp_path / "s", body, []):
        assert not (
            await Asking(tmp_path / "s", Grace(5.0, 10.0), lambda health: None, lambda: False).ask()
        ).ok


async def test_gone_and_hung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Asking(tmp_path / "s", Grace(5.0, 10.0), lambda health: None, lambda: False)
    idle = json.dumps({**ANSWER, "sessions": 0})
    async with answering(tmp_path / "s", idle, []):
        assert (await watched.ask()).ok
    monkeypatch.setattr(asking, "_LIMIT", 0.05)
    (tmp_path / "s").unlink()
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "s"))
        hung.listen()
        # It doesn't answer, but something is there: it has its time.
        assert (await watched.ask()).ok
    assert not (await watched.ask()).ok


async def test_only_what_is_new_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_EVERY", 0.0)
    told: list[BalancerHealth] = []
    watched = Asking(tmp_path / "s", Grace(5.0, 10.0), told.append, lambda: False)
    asked: list[str] = []
    async with answering(tmp_path / "s", json.dumps(ANSWER), asked):
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await watched.watch()
    assert (len(asked) > 2, len(told)) == (True, 1)
