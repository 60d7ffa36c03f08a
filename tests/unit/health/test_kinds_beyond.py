"""Checks by message, HTTP and agent, of servers that are as they should be, and of others."""

import asyncio
import errno
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from ssl import CERT_REQUIRED, SSLContext
from typing import Any

import pytest
from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session
from hypothesis import given
from hypothesis import strategies as st

from harness.servers.certificates import certificate
from mailweir.config.address import Address, parse_server
from mailweir.config.check_keys import Arrives, Check, FurtherCheck
from mailweir.config.words import CheckKind, Proxy, Verify
from mailweir.health.agent_words import NOTHING_SAID, AgentSays, heard
from mailweir.health.check import run
from mailweir.health.probes import arrival, dialogue
from mailweir.health.probes.dial import Progress
from mailweir.health.target import Speech, Target
from mailweir.spec import ServerState
from mailweir.state.desired import Health, Wish
from unit.health.asking import BOX, NAME, PASSED, check, serving, smtp, told
from unit.health.monitored import OF_A, World, monitoring, settle, target
from unit.health.scripted import playing

# --- mails -------------------------------------------------------------------

Deliver = Callable[[bytes], Awaitable[None]]


class _Taking:
    """A server that hands on what it takes."""

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver

    async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        await self._deliver(b"Received: by mx\r\n" + envelope.content)
        return "250 2.0.0 taken"


async def _nowhere(_: bytes) -> None:
    return


async def test_a_message_is_taken() -> None:
    mails: list[bytes] = []

    async def keep(mail: bytes) -> None:
        mails.append(mail)

    async with smtp(_Taking(keep)) as address:
        assert told(await check(address, CheckKind.MESSAGE, rcpt_to=BOX)) == PASSED
    [mail] = mails
    assert b"Auto-Submitted: auto-generated" in mail
    assert len(arrival.token_of(mail)) == 32


async def test_a_message_arrives_in_a_maildir(tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    (new / "other").write_bytes(b"Subject: somebody else's\n\nX-Mailweir-Check: x\n")

    async def deliver(mail: bytes) -> None:
        (new / "1").write_bytes(mail.replace(b"\r\n", b"\n"))

    async with smtp(_Taking(deliver)) as address:
        keys: dict[str, Any] = {"rcpt_to": BOX, "arrives": {"maildir": str(tmp_path)}}
        assert told(await check(address, CheckKind.MESSAGE, **keys)) == PASSED
    # Ours is taken away, and no other.
    assert [file.name for file in new.iterdir()] == ["other"]


class _Silent(_Taking):
    """Doesn't answer QUIT."""

    async def handle_QUIT(self, *_: object) -> str:  # noqa: N802 - aiosmtpd's name
        await asyncio.sleep(60)
        return "221 bye"


@pytest.mark.parametrize("server", [_Taking, _Silent])
async def test_a_message_that_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: type[_Taking]
) -> None:
    monkeypatch.setattr(dialogue, "_COURTESY", 0.1)
    (tmp_path / "new").mkdir()
    async with smtp(server(_nowhere)) as address:
        keys: dict[str, Any] = {
            "rcpt_to": BOX,
            "arrives": {"maildir": str(tmp_path)},
            "timeout": "1s",
        }
        outcome = await check(address, CheckKind.MESSAGE, **keys)
    assert told(outcome) == (Health.DOWN, "arrival", "no mail within 1s")


async def test_servers_share_a_maildir(tmp_path: Path) -> None:
    """None of their checks takes another's mail away; what is left behind goes in the end."""
    new = tmp_path / "new"
    new.mkdir()
    for name, age in (("late", 60.0), ("old", 7200.0)):
        (new / name).write_bytes(f"Subject: x\n{arrival.HEADER}: {'0' * 32}\n\n".encode())
        os.utime(new / name, (time.time() - age,) * 2)
    count = iter(range(100))

    async def deliver(mail: bytes) -> None:
        (new / f"mail{next(count)}").write_bytes(mail)

    async with smtp(_Taking(deliver)) as address:
        keys: dict[str, Any] = {
            "rcpt_to": BOX,
            "arrives": {"maildir": str(tmp_path)},
            "timeout": "2s",
        }
        many = [check(address, CheckKind.MESSAGE, **keys) for _ in range(8)]
        assert [told(one) for one in await asyncio.gather(*many)] == [PASSED] * 8
    assert [file.name for file in new.iterdir()] == ["late"]


async def test_a_maildir_that_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That we can't see the mail says nothing of the server."""
    keys: dict[str, Any] = {
        "rcpt_to": BOX,
        "arrives": {"maildir": str(tmp_path)},
        "timeout": "1s",
    }

    async def deliver(mail: bytes) -> None:
        (tmp_path / "new").mkdir(exist_ok=True)
        (tmp_path / "new" / "1").write_bytes(mail)

    def denied(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    async with smtp(_Taking(_nowhere)) as address:
        outcome = await check(address, CheckKind.MESSAGE, **keys)
    why = f"there is no folder {tmp_path}/new: no mail has come yet, or `arrives` is wrong"
    assert (outcome.conclusive, outcome.detail) == (False, why)

    async with smtp(_Taking(deliver)) as address:
        with monkeypatch.context() as patch:
            patch.setattr(arrival, "open_plain", denied)
            outcome = await check(address, CheckKind.MESSAGE, **keys)
        mail = tmp_path / "new" / "1"
        reason = f"mail {mail} can't be read: Permission denied"
        assert (outcome.conclusive, outcome.detail) == (False, reason)
        # It passes where the mail is there, and says that it stays there.
        mail.unlink()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", denied)
            outcome = await check(address, CheckKind.MESSAGE, **keys)
        assert told(outcome) == PASSED
        assert outcome.alarm == f"mail {mail} can't be removed: Permission denied"


@pytest.mark.parametrize("way", ["smtp", "lmtp"])
async def test_a_message_arrives_where_we_listen(way: str, unused: Address) -> None:
    under_way: list[asyncio.Task[str]] = []

    async def deliver(mail: bytes) -> None:
        under_way.append(asyncio.create_task(_hand_over(way, unused, mail)))

    try:
        async with smtp(_Taking(deliver)) as address:
            keys: dict[str, Any] = {"rcpt_to": BOX, "arrives": {way: str(unused)}}
            assert told(await check(address, CheckKind.MESSAGE, **keys)) == PASSED
            [delivered] = await asyncio.gather(*under_way)
        assert delivered.startswith("250 ")
        assert (await _hand_over(way, unused, b"Subject: x\r\n\r\nhello\r\n")).startswith(
            "550 5.7.1"
        )
    finally:
        arrival.SINKS.keep([])


@pytest.fixture
def unused() -> Address:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return parse_server(f"127.0.0.1:{free.getsockname()[1]}")


async def test_an_address_is_left_that_no_check_names(unused: Address) -> None:
    """By the next check it may be for the other protocol, by a reload for a listener."""
    try:
        async with smtp(_Taking(_nowhere)) as address:
            for way in ("smtp", "lmtp"):
                arrives = Arrives.model_validate({way: str(unused)})
                arrival.SINKS.keep([arrives])
                keys: dict[str, Any] = {"rcpt_to": BOX, "arrives": arrives, "timeout": "500ms"}
                outcome = await check(address, CheckKind.MESSAGE, **keys)
                assert told(outcome) == (Health.DOWN, "arrival", "no mail within 500ms")
    finally:
        arrival.SINKS.keep([])
    await asyncio.sleep(0)
    assert _is_free(unused)


async def test_a_reload_leaves_it(unused: Address) -> None:
    arrives = Arrives.model_validate({"smtp": str(unused)})
    async with monitoring(World()) as monitor:
        monitor.update({OF_A: target(1, Check(arrives=arrives))})
        async with arrival.awaited(arrives, "0" * 32, Progress()):
            monitor.update({OF_A: target(2, Check(arrives=arrives))})
            await settle()
            assert not _is_free(unused)
            monitor.update({OF_A: target(2)})
            await settle()
            assert _is_free(unused)


def _is_free(address: Address) -> bool:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind((str(address.ip), address.port))
            other.listen()
        except OSError:
            return False
    return True


async def _hand_over(way: str, to: Address, mail: bytes) -> str:
    """What is answered to the mail."""
    reader, writer = await asyncio.open_connection(str(to.ip), to.port)
    await reader.readline()
    said = b""
    hello = b"EHLO mx\r\n" if way == "smtp" else b"LHLO mx\r\n"
    for command in (hello, b"MAIL FROM:<>\r\n", f"RCPT TO:<{BOX}>\r\n".encode(), b"DATA\r\n"):
        writer.write(command)
        while (said := await reader.readline())[3:4] == b"-":
            pass
    writer.write(mail + b".\r\n")
    said = await reader.readline()
    writer.write(b"QUIT\r\n")
    await reader.read()
    writer.close()
    return said.decode()


# --- HTTP --------------------------------------------------------------------


@asynccontextmanager
async def http(context: SSLContext | None = None) -> AsyncIterator[Address]:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/moved":
            raise web.HTTPFound("/")
        if request.path == "/busy":
            return web.Response(status=503, text="queue \x1b[2J full")
        seen = {"host": request.host, "name": request.headers.get("X-Name"), "state": "fine"}
        return web.Response(text=json.dumps(seen))

    app = web.Application()
    app.router.add_get("/{any:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield parse_server(f"127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("keys", "result"),
    [
        ({}, PASSED),
        ({"match": '"state": "fine"'}, PASSED),
        ({"match": "dead"}, (Health.DOWN, "http", "the answer doesn't have the words of `match`")),
        ({"path": "/busy"}, (Health.DOWN, "http", "status 503")),
        ({"path": "/busy", "status": [503]}, PASSED),
        ({"path": "/moved"}, (Health.DOWN, "http", "status 302")),
        ({"header": {"Host": "mx.test", "X-Name": "n"}, "match": '"mx.test", "name": "n"'}, PASSED),
    ],
)
async def test_http(keys: dict[str, Any], result: tuple[Health, str, str]) -> None:
    async with http() as address:
        outcome = await check(address, CheckKind.HTTP, **keys)
    assert told(outcome)[:2] == result[:2], outcome
    assert outcome.detail.startswith(result[2])
    assert outcome.detail.isprintable()


@pytest.mark.needs("openssl")
async def test_https_and_its_certificates(tmp_path: Path) -> None:
    made, ours = (certificate(tmp_path, name, days=90) for name in (NAME, "lb.test"))
    context = serving(made)
    context.verify_mode = CERT_REQUIRED
    context.load_verify_locations(ours.cert)
    both = tmp_path / "both.pem"
    both.write_text(ours.cert.read_text() + ours.key.read_text())
    async with http(context) as address:
        keys: dict[str, Any] = {"ca": str(made.cert), "name": NAME, "client_certificate": str(both)}
        good = await check(address, CheckKind.HTTPS, **keys)
        unknown = await check(address, CheckKind.HTTPS, ca=str(made.cert), name=NAME)
        wrong = await check(address, CheckKind.HTTPS, **{**keys, "name": "other.test"})
        untrusted = await check(address, CheckKind.HTTPS, client_certificate=str(both))
    assert told(good) == PASSED
    assert unknown.verdict is Health.DOWN
    assert (wrong.step, untrusted.step) == ("certificate", "certificate")
    assert untrusted.detail == "self-signed certificate"


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (CheckKind.HTTP, "no answer within 100ms"),
        (CheckKind.HTTPS, "no answer, or no TLS, within 100ms"),
    ],
)
async def test_a_web_server_that_does_not_accept(kind: CheckKind, why: str) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        there = parse_server(f"127.0.0.1:{full.getsockname()[1]}")
        asked = FurtherCheck(kind=kind, port=there.port, verify=Verify.NONE)
        outcome = await run(Target(there, 0.1, kind, Speech.SMTP, Proxy.OFF, asked))
        for one in waiting:
            one.close()
    assert told(outcome) == (Health.DOWN, "connect", why)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "Server disconnected"),
        (b"220 mx ESMTP\r\n", "no HTTP: Bad status line: "),
        (b"HTTP/1.1 \xff\x1b[2J\r\n\r\n", "no HTTP: "),
        (b"HTTP/1.1 200 \x1b\r\n\r\n", "the answer doesn't have the words"),
        (b"HTTP/1.1 200 ok\r\nContent-Length: 9\r\n\r\ncut", "the answer isn't whole"),
    ],
)
async def test_no_http(said: bytes, why: str) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(said)
        writer.close()

    async with playing(script) as server:
        outcome = await check(server.address, CheckKind.HTTP, match="x")
    assert told(outcome)[:2] == (Health.DOWN, "http")
    assert outcome.detail.startswith(why)
    assert outcome.detail.isprintable()


async def test_an_address_that_this_machine_does_not_have(unused: Address) -> None:
    for kind in (CheckKind.HTTP, CheckKind.EHLO):
        asked = FurtherCheck(kind=kind)
        source = ip_address("192.0.2.77")
        asking = Target(unused, 1.0, kind, Speech.SMTP, Proxy.OFF, asked, source)
        outcome = await run(asking)
        why = "from 192.0.2.77: Cannot assign requested address"
        assert (outcome.conclusive, outcome.detail) == (False, why)


# --- agents ------------------------------------------------------------------


async def test_an_agent_is_heard_and_its_absence_says_nothing() -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"ready up 75%\nmore")
        writer.close()

    async def mute(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with playing(script) as server:
        outcome = await check(server.address, CheckKind.AGENT, port=1)
    assert (told(outcome), outcome.agent) == (PASSED, "ready up 75%")
    async with playing(mute) as server:
        outcome = await check(server.address, CheckKind.AGENT, port=1)
        gone = server.address
    assert (outcome.conclusive, outcome.detail) == (False, "agent: it said nothing")
    outcome = await check(gone, CheckKind.AGENT, port=1)
    assert (outcome.conclusive, outcome.detail) == (False, "agent: Connection refused")


@pytest.mark.parametrize(
    ("lines", "wish", "down"),
    [
        (["75%"], Wish(share=0.75), ""),
        (["up 100%, maxconn:30"], Wish(max_sessions=30), ""),
        (["maxconn:30", "50%"], Wish(share=0.5, max_sessions=30), ""),
        (["maxconn:30", "maxconn:0"], Wish(), ""),
        (["drain"], Wish(state=ServerState.DRAIN), ""),
        (["maint 0%"], Wish(state=ServerState.MAINT, share=0.0), ""),
        (["drain", "READY"], Wish(), ""),
        (["down#disk full, 3 left"], Wish(), "down#disk full, 3 left"),
        (["stopped"], Wish(), "stopped"),
        (["fail", "75%"], Wish(share=0.75), "fail"),
        (["down", "up"], Wish(), ""),
        (["nonsense 75 maxconn:x 1e3% \\x1b"], Wish(), ""),
    ],
)
def test_the_words_of_agents(lines: list[str], wish: Wish, down: str) -> None:
    says = NOTHING_SAID
    for line in lines:
        says = heard(says, line)
    assert says == AgentSays(wish, down)


@given(st.lists(st.text(max_size=40)))
def test_whatever_an_agent_says_means_something(lines: list[str]) -> None:
    says = NOTHING_SAID
    for line in lines:
        says = heard(says, line)
    assert says.wish.share >= 0
