"""Both probes against a real SMTP library and against servers that misbehave by script."""

import asyncio
import errno
import re
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import SMTP

from mailweir.config.address import Address, parse_server
from mailweir.config.check_keys import Check
from mailweir.config.model import MAIN_CHECK
from mailweir.config.words import CheckKind, Proxy
from mailweir.health.check import Outcome, run
from mailweir.health.probes.proxy import header
from mailweir.health.probes.reply import Greeting, greeting
from mailweir.health.target import CheckKey, Speech, Target, targets
from mailweir.spec import ServerKey
from unit.fakes import NOTHING_SAID, config
from unit.health import scripted
from unit.health.scripted import Script, Scripted, playing, say


def target(
    address: Address,
    kind: CheckKind = CheckKind.EHLO,
    timeout: float = 5.0,
    proxy: Proxy = Proxy.OFF,
    connect: float = 5.0,
) -> Target:
    check = Check.model_construct(timeout=timeout)
    return Target(address, connect, kind, Speech.SMTP, proxy=proxy, check=check)


async def ehlo(server: Scripted, deadline: float = 5.0) -> Outcome:
    return await run(target(server.address, timeout=deadline))


@pytest.fixture
async def sink() -> AsyncIterator[Address]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Sink(), loop=loop), "127.0.0.1", 0)
    async with server:
        yield parse_server(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")


@pytest.mark.parametrize("kind", [CheckKind.TCP, CheckKind.GREETING, CheckKind.EHLO])
async def test_a_real_server(sink: Address, kind: CheckKind) -> None:
    outcome = await run(target(sink, kind))
    assert (outcome.ok, outcome.step, outcome.detail) == (True, "", "")
    assert 0 < outcome.seconds < 5


GREETED = {
    "one line": say(b"220 mx ESMTP\r\n"),
    "several lines": say(b"220-mx teaser\r\n220 mx ESMTP\r\n"),
    "several lines, apart": say(b"220-mx tea", b"ser\r\n", b"220 mx ", b"ESMTP\r\n"),
    "no text": say(b"220\r\n"),
    "bare newline": say(b"220 mx\n"),
}


@pytest.mark.parametrize("script", GREETED.values(), ids=GREETED)
async def test_ehlo_is_polite(script: Script) -> None:
    async with playing(script) as server:
        outcome = await ehlo(server)
        assert outcome.ok, outcome
        await server.over.wait()
    assert server.heard[:2] == [b"EHLO [127.0.0.1]\r\n", b"QUIT\r\n"]
    assert server.ended == ["fin"]


_VECTORS = Path(__file__).resolve().parents[3] / "rust/core/src/smtp/greetings.txt"


def test_greetings_are_read_as_those_of_sessions() -> None:
    """By the same vectors: who passes here takes sessions, and the other way round."""
    rows = [row for row in _VECTORS.read_text().splitlines() if not row.startswith("#")]
    assert len(rows) > 30
    for row in rows:
        verdict, _, text = row.partition(" ")
        said = text.replace(r"\r", "\r").replace(r"\n", "\n").replace(r"\t", "\t")
        said = re.sub(r"<(.)\*(\d+)>", lambda match: match[1] * int(match[2]), said)
        assert greeting(said.encode()) == verdict, row


async def test_a_delayed_greeting_is_waited_for() -> None:
    released = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        await say(b"220 mx\r\n")(reader, writer)

    async with playing(script) as server:
        check = asyncio.create_task(ehlo(server))
        done, _ = await asyncio.wait({check}, timeout=0.05)
        assert not done
        released.set()
        assert (await check).ok
        await server.over.wait()


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"220-more to come\r\n" * 100)
        await writer.drain()


async def bad_ehlo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mx\r\n")
    await reader.readline()
    writer.write(b"451 4.3.0 later\r\n")


async def close_at_ehlo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mx\r\n")
    await reader.readline()
    writer.close()


FAILING = [
    (say(b"421 4.3.2 too busy\r\n"), "greeting", "421 4.3.2 too busy"),
    (say(b"554-no\r\n554 5.7.1 go away\r\n"), "greeting", "554 no 5.7.1 go away"),
    (say(b"SSH-2.0-OpenSSH_9.2\r\n"), "greeting", "no SMTP: SSH-2.0-OpenSSH_9.2\\r\\n"),
    (say(b"\x00\xff\xfe\n"), "greeting", "no SMTP: \\x00\\xff\\xfe\\n"),
    (endless, "greeting", "a reply without an end"),
    (scripted.close, "greeting", "connection closed by the server"),
    (scripted.reset, "greeting", "connection"),
    (scripted.silence, "greeting", "no answer within 100ms"),
    (bad_ehlo, "ehlo", "451 4.3.0 later"),
    (close_at_ehlo, "ehlo", "connection closed by the server"),
]  # fmt: skip


@pytest.mark.parametrize(("script", "step", "detail"), FAILING, ids=[row[2] for row in FAILING])
async def test_ehlo_says_what_failed(script: Script, step: str, detail: str) -> None:
    async with playing(script) as server:
        outcome = await ehlo(server, deadline=0.1 if "within" in detail else 5.0)
    assert (outcome.ok, outcome.step) == (False, step)
    assert outcome.detail.startswith(detail)


async def rude_at_quit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mx\r\n")
    await reader.readline()
    writer.write(b"250 mx\r\n")
    await reader.readline()
    writer.close()


async def silent_at_quit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mx\r\n")
    await reader.readline()
    writer.write(b"250 mx\r\n")


@pytest.mark.parametrize("script", [rude_at_quit, silent_at_quit])
async def test_a_failed_quit_fails_nothing(script: Script) -> None:
    async with playing(script) as server:
        assert (await ehlo(server, deadline=0.2)).ok


@pytest.mark.parametrize("kind", [CheckKind.TCP, CheckKind.GREETING, CheckKind.EHLO])
async def test_nobody_listens(kind: CheckKind) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = parse_server(f"127.0.0.1:{free.getsockname()[1]}")
        outcome = await run(target(address, kind))
    assert (outcome.ok, outcome.step) == (False, "connect")
    assert outcome.detail == "Connection refused"


@pytest.mark.parametrize("kind", [CheckKind.TCP, CheckKind.GREETING, CheckKind.EHLO])
@pytest.mark.parametrize(("whole", "connect"), [(0.1, 5.0), (5.0, 0.1), (0.1, 0.1)])
async def test_a_server_that_does_not_accept(kind: CheckKind, whole: float, connect: float) -> None:
    """By the limit of sessions, so that it is known soon, and by that of the whole check."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        there = parse_server(f"127.0.0.1:{address[1]}")
        outcome = await run(target(there, kind, whole, connect=connect))
        for one in waiting:
            one.close()
    assert (outcome.step, outcome.detail) == ("connect", "no answer within 100ms")


async def test_a_loop_that_is_late_is_no_server_that_is() -> None:
    """It comes round only when the time is over; what the kernel has by then counts."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        there = parse_server(f"127.0.0.1:{server.getsockname()[1]}")
        checking = asyncio.create_task(run(target(there, CheckKind.TCP, connect=0.01)))
        await asyncio.sleep(0)
        time.sleep(0.1)  # noqa: ASYNC251 - what it is about
        assert (await checking).ok


async def test_want_of_descriptors_says_nothing_of_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "as the system has it")

    monkeypatch.setattr("mailweir.health.probes.dial.socket.socket", none_left)
    outcome = await run(target(parse_server("127.0.0.1:25")))
    assert (outcome.ok, outcome.conclusive) == (False, False)
    assert (outcome.step, outcome.detail) == ("local", "Too many open files")


async def test_tcp_leaves_politely_and_judges_by_the_connect_alone() -> None:
    async with playing(say(b"421 4.3.2 busy\r\n")) as server:
        assert (await run(target(server.address, CheckKind.TCP))).ok
        await server.over.wait()
    assert server.heard[0] == b"QUIT\r\n"
    assert server.ended == ["fin"]


@pytest.mark.parametrize("script", [scripted.close, scripted.reset, scripted.silence, endless])
async def test_tcp_does_not_mind_bad_manners(script: Script) -> None:
    async with playing(script) as server:
        assert (await run(target(server.address, CheckKind.TCP, 0.2))).ok


async def test_tcp_says_nothing_where_nobody_knows_what_is_spoken() -> None:
    async with playing(scripted.silence) as server:
        silent = replace(target(server.address, CheckKind.TCP), speech=Speech.OPAQUE)
        assert (await run(silent)).ok
        await server.over.wait()
    assert server.heard == []


async def test_a_bug_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: bytes) -> Greeting:
        raise ZeroDivisionError

    monkeypatch.setattr("mailweir.health.probes.reply.greeting", broken)
    async with playing(say(b"220 mx\r\n")) as server:
        outcome = await run(target(server.address))
    assert (outcome.ok, outcome.step) == (False, "greeting")
    assert outcome.detail.startswith("internal error: ")


def test_targets_follow_the_configuration() -> None:
    found = targets(config(), NOTHING_SAID)
    assert list(found) == [CheckKey(ServerKey("farm", name), MAIN_CHECK) for name in "ab"]
    first = next(iter(found.values()))
    assert (first.kind, first.speech, first.source) == (CheckKind.EHLO, Speech.SMTP, None)


def test_a_server_may_take_as_long_to_accept_as_for_the_most_patient_session() -> None:
    two = config(
        "listeners:\n"
        "  mx: {bind: ['192.0.2.1:25'], pool: farm, timeouts: {connect: 2s}}\n"
        "  far: {bind: ['192.0.2.1:26'], pool: farm, timeouts: {connect: 4s}}\n"
        "  other: {bind: ['192.0.2.1:27'], pool: other, timeouts: {connect: 9s}}\n"
        "pools: {farm: {servers: {a: 10.0.0.1:25}}, other: {servers: {b: 10.0.0.2:25}},"
        " idle: {servers: {c: 10.0.0.3:25}}}\n"
    )
    found = targets(two, NOTHING_SAID)
    assert {key.server.server: one.connect for key, one in found.items()} == {
        "a": 4,
        "b": 9,
        "c": 15,
    }


def test_checks_go_where_they_are_told() -> None:
    text = (
        "listeners: {mx: {bind: ['192.0.2.1:25'], pool: farm}}\n"
        "pools:\n  farm:\n    servers:\n"
        "      a: {address: 10.0.0.1:25, proxy: v2}\n"
        "      b: {address: '[2001:db8::2]:26', proxy: v2}\n"
        "    check: {port: 10025, proxy: off}\n"
        "    more_checks:\n"
        "      sessions: {kind: greeting}\n"
        "      web: {kind: http}\n"
        "      other: {kind: https, port: 8443}\n"
        "      open: {kind: tcp, port: 24, proxy: v1}\n"
    )
    found = targets(config(text), NOTHING_SAID)
    where = {(str(key.server), key.check): (str(t.address), t.proxy) for key, t in found.items()}
    assert where == {
        ("farm/a", MAIN_CHECK): ("10.0.0.1:10025", Proxy.OFF),
        ("farm/a", "sessions"): ("10.0.0.1:25", Proxy.V2),
        ("farm/a", "web"): ("10.0.0.1:80", Proxy.V2),
        ("farm/a", "other"): ("10.0.0.1:8443", Proxy.V2),
        ("farm/a", "open"): ("10.0.0.1:24", Proxy.V1),
        ("farm/b", MAIN_CHECK): ("[2001:db8::2]:10025", Proxy.OFF),
        ("farm/b", "sessions"): ("[2001:db8::2]:26", Proxy.V2),
        ("farm/b", "web"): ("[2001:db8::2]:80", Proxy.V2),
        ("farm/b", "other"): ("[2001:db8::2]:8443", Proxy.V2),
        ("farm/b", "open"): ("[2001:db8::2]:24", Proxy.V1),
    }


async def test_a_check_comes_from_its_source() -> None:
    seen: list[str] = []

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])

    async with playing(script) as server:
        ours = replace(target(server.address, CheckKind.TCP), speech=Speech.OPAQUE)
        assert (await run(replace(ours, source=ip_address("127.9.8.7")))).ok
        await server.over.wait()
        foreign = await run(replace(ours, source=ip_address("192.0.2.77")))
    assert seen == ["127.9.8.7"]
    # That says nothing of the server.
    assert (foreign.conclusive, foreign.step) == (False, "local")
    assert foreign.detail == "from 192.0.2.77: Cannot assign requested address"


def test_checks_come_from_an_address_that_stays() -> None:
    text = (
        "listeners: {mx: {bind: ['192.0.2.1:25'], pool: farm}}\n"
        "pools:\n  farm:\n    servers:\n"
        "      a: {address: 10.0.0.1:25, source: [10.0.0.253, 10.0.0.7]}\n"
        "      b: {address: 10.0.0.2:25, source: [10.0.0.253]}\n"
        "    more_checks: {own: {kind: tcp, source: 10.0.0.9}}\n"
        "ha:\n  node: a\n  keys: {1: /k}\n"
        "  nodes: {a: {links: {x: '192.0.2.8:1'}}, b: {links: {x: '192.0.2.9:1'}}}\n"
        "  virtual: [{address: 192.0.2.1/24, dev: eth0}]\n"
        "  source: [{address: 10.0.0.253/24, dev: eth1}]\n"
    )
    found = targets(config(text), NOTHING_SAID)
    sources = {(key.server.server, key.check): str(one.source) for key, one in found.items()}
    assert sources == {
        ("a", MAIN_CHECK): "10.0.0.7",
        ("a", "own"): "10.0.0.9",
        ("b", MAIN_CHECK): "None",
        ("b", "own"): "10.0.0.9",
    }


@pytest.mark.parametrize(
    ("said", "sent", "asks"),
    [
        (
            b"421 4.3.0 mx Server local error\r\n",
            Proxy.OFF,
            " (does it expect a PROXY header? then write `proxy: v2`)",
        ),
        (
            b"421 4.3.0 mx Server local error\r\n",
            Proxy.V1,
            " (does it take the PROXY v1 header? `mailweir doctor` finds out)",
        ),
        (
            b"421 4.3.2 No system resources\r\n",
            Proxy.OFF,
            " (does it expect a PROXY header? then write `proxy: v2`)",
        ),
        (
            b"421 PROXY timed out\r\n",
            Proxy.OFF,
            " (does it expect a PROXY header? then write `proxy: v2`)",
        ),
        (b"421 4.3.2 proxy.mx.test is closing\r\n", Proxy.OFF, ""),
        (b"554 no\r\n", Proxy.V2, ""),
    ],
)
async def test_words_that_may_be_about_a_header(said: bytes, sent: Proxy, asks: str) -> None:
    async with playing(say(said)) as server:
        outcome = await run(target(server.address, proxy=sent))
    assert outcome.detail == said.decode().strip() + asks


async def test_exim_asks_for_a_header_at_the_first_command() -> None:
    async def exim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mx Exim\r\n")
        await reader.readline()
        writer.write(b"503 Command refused, required Proxy negotiation failed\r\n")

    async with playing(exim) as server:
        outcome = await run(target(server.address))
    assert (outcome.step, outcome.detail.endswith("then write `proxy: v2`)")) == ("ehlo", True)


@pytest.mark.parametrize("kind", [Proxy.V1, Proxy.V2])
async def test_a_header_comes_before_anything_else(kind: Proxy) -> None:
    first: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first.append(await reader.read(200))

    async with playing(script) as server:
        smtp = target(server.address, CheckKind.TCP, proxy=kind)
        await run(replace(smtp, speech=Speech.OPAQUE))
        await server.over.wait()
    if kind is Proxy.V2:
        assert first == [b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"]
    else:
        assert first[0].startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")
        assert first[0].endswith(f" {server.address.port}\r\n".encode())


def test_headers_name_the_checks_own_connection() -> None:
    assert header(Proxy.OFF, ("::1", 1), ("::2", 25)) == b""
    assert header(Proxy.V1, ("::1", 1), ("::2", 25)) == b"PROXY TCP6 ::1 ::2 1 25\r\n"
