"""Each kind of check against a server that is as it should be, and against others."""

import asyncio
from base64 import b64decode
from pathlib import Path
from time import time
from typing import Any

import pytest
import uvloop
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from hypothesis import given
from hypothesis import strategies as st

from harness.servers.certificates import certificate
from mailweir.config.address import parse_server
from mailweir.config.words import CheckKind
from mailweir.health.check import Outcome
from mailweir.health.probes.tls import ends
from mailweir.health.target import Speech
from mailweir.state.desired import Health
from unit.health.asking import BOX, NAME, PASSED, check, serving, smtp, told
from unit.health.scripted import Script, playing

USER, PASSWORD = "check", "a secret"


def dialogue(answers: dict[bytes, bytes], greeting: bytes = b"220 mx\r\n") -> Script:
    """Says what is given for commands that begin so, and 250 to all others."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        while line := await reader.readline():
            found = next((said for begin, said in answers.items() if line.startswith(begin)), b"")
            writer.write(found or (b"221 bye\r\n" if line == b"QUIT\r\n" else b"250 ok\r\n"))
            if line == b"QUIT\r\n":
                return

    return script


# --- by SMTP -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("greeting", "verdict"),
    [
        (b"421 4.3.2 too many", Health.DRAIN),
        (b"450 4.7.1 later", Health.DRAIN),
        (b"454 4.7.0 no TLS", Health.DOWN),
        (b"554 5.7.1 no", Health.DOWN),
    ],
)
@pytest.mark.parametrize("kind", [CheckKind.GREETING, CheckKind.EHLO])
async def test_what_comes_of_a_greeting(kind: CheckKind, greeting: bytes, verdict: Health) -> None:
    async with playing(dialogue({}, greeting + b"\r\n")) as server:
        outcome = await check(server.address, kind)
        await server.over.wait()
    assert told(outcome) == (verdict, "greeting", greeting.decode())
    # It speaks SMTP, so it is left by it, and its answer is waited for.
    assert (server.heard, server.ended) == ([b"QUIT\r\n"], ["fin"])


async def test_greeting_asks_nothing_more() -> None:
    async with playing(dialogue({})) as server:
        assert told(await check(server.address, CheckKind.GREETING)) == PASSED
        await server.over.wait()
    assert server.heard == [b"QUIT\r\n"]


async def test_ehlo_wants_extensions() -> None:
    answer = {b"EHLO": b"250-mx\r\n250-STARTTLS\r\n250-size 1000\r\n250 AUTH PLAIN\r\n"}
    async with playing(dialogue(answer)) as server:
        good = await check(server.address, CheckKind.EHLO, requires=["SIZE", "starttls"])
        bad = await check(server.address, CheckKind.EHLO, requires=["SIZE", "DSN", "CHUNKING"])
    assert told(good) == PASSED
    assert told(bad) == (Health.DOWN, "ehlo", "the server doesn't offer DSN, CHUNKING")


RCPT: dict[str, Any] = {"mail_from": "a@b.test", "rcpt_to": BOX}


@pytest.mark.parametrize(
    ("begin", "answer", "verdict", "step"),
    [
        (b"MAIL", b"452 4.3.1 Insufficient system storage\r\n", Health.DRAIN, "mail"),
        (b"RCPT", b"451 4.3.0 try later\r\n", Health.DRAIN, "rcpt"),
        (b"RCPT", b"550 5.1.1 unknown\r\n", Health.DOWN, "rcpt"),
        (b"RCPT", b"530 5.7.0 TLS first\r\n", Health.DOWN, "rcpt"),
    ],
)
async def test_rcpt_refused(begin: bytes, answer: bytes, verdict: Health, step: str) -> None:
    async with playing(dialogue({begin: answer})) as server:
        outcome = await check(server.address, CheckKind.RCPT, **RCPT)
        await server.over.wait()
    assert told(outcome) == (verdict, step, answer.decode().strip())
    assert server.heard[-1] == b"QUIT\r\n"


async def test_rcpt_takes_back_what_it_asked_for() -> None:
    async with playing(dialogue({})) as server:
        assert told(await check(server.address, CheckKind.RCPT, **RCPT)) == PASSED
        await server.over.wait()
    assert server.heard == [
        b"EHLO [127.0.0.1]\r\n",
        b"MAIL FROM:<a@b.test>\r\n",
        b"RCPT TO:<box@farm.test>\r\n",
        b"RSET\r\n",
        b"QUIT\r\n",
    ]
    assert server.ended == ["fin"]


# --- TLS ---------------------------------------------------------------------


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    ("days", "keys", "result"),
    [
        (90, {"name": NAME}, PASSED),
        (90, {"name": "other.test"}, (Health.DOWN, "certificate", "Hostname mismatch")),
        (90, {"ca": None}, (Health.DOWN, "certificate", "self-signed certificate")),
        (90, {"ca": None, "verify": "none"}, PASSED),
        (-3, {}, (Health.DOWN, "certificate", "certificate has expired")),
        (-3, {"verify": "none"}, (Health.DOWN, "certificate", "it ended on ")),
    ],
)
async def test_certificates(
    tmp_path: Path, days: int, keys: dict[str, Any], result: tuple[Health, str, str], first: bool
) -> None:
    made = certificate(tmp_path, NAME, days=days)
    asked: dict[str, Any] = {"ca": str(made.cert)} | keys
    asked = {key: value for key, value in asked.items() if value is not None}
    context = serving(made)
    options: dict[str, Any] = {"ssl": context} if first else {"tls_context": context}
    speech = Speech.SMTPS if first else Speech.SMTP
    async with smtp(**options) as address:
        outcome = await check(address, CheckKind.STARTTLS, speech, **asked)
    assert told(outcome)[:2] == result[:2], outcome
    assert outcome.detail.startswith(result[2])
    if result == PASSED:
        assert outcome.certificate_end == pytest.approx(time() + 90 * 86400, abs=60)
        assert outcome.alarm == ""


@pytest.mark.needs("openssl")
async def test_a_certificate_that_ends_soon_is_an_alarm(tmp_path: Path) -> None:
    made = certificate(tmp_path, NAME, days=10.2)
    async with smtp(tls_context=serving(made)) as address:
        soon = await check(address, CheckKind.STARTTLS, ca=str(made.cert))
        later = await check(address, CheckKind.STARTTLS, ca=str(made.cert), days=7)
    assert told(soon) == told(later) == PASSED
    assert soon.alarm.startswith("certificate ends in 10 days, on 2")
    assert later.alarm == ""


@pytest.mark.parametrize(
    ("days", "left"), [(0.4, "less than a day"), (1.8, "1 day"), (3.7, "3 days")]
)
@pytest.mark.needs("openssl")
async def test_the_days_that_are_left(tmp_path: Path, days: float, left: str) -> None:
    made = certificate(tmp_path, NAME, days=days)
    async with smtp(tls_context=serving(made)) as address:
        soon = await check(address, CheckKind.STARTTLS, ca=str(made.cert))
    assert soon.alarm.startswith(f"certificate ends in {left}, on 2")


async def test_a_server_without_starttls() -> None:
    async with smtp() as address:
        outcome = await check(address, CheckKind.STARTTLS, verify="none")
    assert told(outcome) == (Health.DOWN, "starttls", "the server doesn't offer STARTTLS")


@pytest.mark.parametrize("behind", [b"", b"not TLS\r\n", b"\x15\x03\x01\x00\x02\x02\x50"])
@pytest.mark.parametrize("speech", [Speech.SMTP, Speech.SMTPS])
def test_a_handshake_that_fails(behind: bytes, speech: Speech) -> None:
    """On the loop that runs the process: it has words of its own for what is closed."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if speech is Speech.SMTP:
            writer.write(b"220 mx\r\n")
            await reader.readline()
            writer.write(b"250-mx\r\n250 STARTTLS\r\n")
            await reader.readline()
            writer.write(b"220 go\r\n")
        await reader.read(4096)
        writer.write(behind)
        writer.close()

    async def checked(kind: CheckKind) -> Outcome:
        async with playing(script) as server:
            keys = {"verify": "none"} if kind is CheckKind.STARTTLS else {}
            return await check(server.address, kind, speech, **keys)

    outcome = uvloop.run(checked(CheckKind.STARTTLS))
    assert told(outcome)[:2] == (Health.DOWN, "tls")
    assert "internal" not in outcome.detail.lower().replace("alert_internal", "")
    if speech is Speech.SMTPS:
        assert told(uvloop.run(checked(CheckKind.TCP))) == PASSED


async def test_what_is_said_before_tls_is_not_taken_for_what_comes_behind_it() -> None:
    answers = {b"EHLO": b"250-mx\r\n250 STARTTLS\r\n", b"STARTTLS": b"220 go\r\n250-forged\r\n"}
    async with playing(dialogue(answers)) as server:
        outcome = await check(server.address, CheckKind.STARTTLS, verify="none")
    assert told(outcome)[:2] == (Health.DOWN, "tls")


async def test_a_missing_file_of_ours_says_nothing_of_the_server(tmp_path: Path) -> None:
    async with smtp() as address:
        outcome = await check(address, CheckKind.STARTTLS, ca=str(tmp_path / "none.pem"))
    assert (outcome.conclusive, outcome.step) == (False, "local")
    assert outcome.detail == f"{tmp_path}/none.pem: No such file or directory"


@given(st.binary(max_size=200))
def test_nonsense_has_no_end(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"certificate|cut off|codec|time data|month|range"):
        ends(b"\x30" + data)


# --- AUTH --------------------------------------------------------------------


def _knows(_: SMTP, __: Session, ___: Envelope, ____: str, given: object) -> AuthResult:
    right = LoginPassword(USER.encode(), PASSWORD.encode())
    return AuthResult(success=given == right, handled=False)


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("without", ["LOGIN", "PLAIN", None])
@pytest.mark.parametrize("secret", [PASSWORD, "wrong one"])
async def test_logging_in(tmp_path: Path, without: str | None, secret: str) -> None:
    made = certificate(tmp_path, NAME, days=90)
    file = tmp_path / "password"
    mounted = tmp_path / "newest"
    mounted.write_text(f"{secret}\n")
    mounted.chmod(0o400)
    file.symlink_to(mounted)
    options: dict[str, Any] = {
        "tls_context": serving(made),
        "authenticator": _knows,
        "auth_exclude_mechanism": [without] if without else None,
    }
    async with smtp(**options) as address:
        keys: dict[str, Any] = {
            "user": USER,
            "password_file": str(file),
            "ca": str(made.cert),
            "name": NAME,
        }
        outcome = await check(address, CheckKind.AUTH, **keys)
    if secret == PASSWORD:
        assert told(outcome) == PASSED
    else:
        assert told(outcome)[:2] == (Health.DOWN, "auth")
        assert outcome.detail.startswith("535 ")
        assert secret not in repr(outcome)


async def test_a_password_never_goes_out_without_tls(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    file.chmod(0o400)
    answers = {b"EHLO": b"250-mx\r\n250 AUTH PLAIN LOGIN\r\n"}
    async with playing(dialogue(answers)) as server:
        keys: dict[str, Any] = {"user": USER, "password_file": str(file), "verify": "none"}
        outcome = await check(server.address, CheckKind.AUTH, **keys)
        await server.over.wait()
    assert told(outcome)[:2] == (Health.DOWN, "starttls")
    assert server.heard == [b"EHLO [127.0.0.1]\r\n", b"QUIT\r\n"]


@pytest.mark.needs("openssl")
async def test_a_server_that_says_the_password_again_is_cut_short(tmp_path: Path) -> None:
    made = certificate(tmp_path, NAME, days=90)
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    file.chmod(0o400)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mx\r\n")
        while line := await reader.readline():
            if line.startswith(b"EHLO"):
                writer.write(b"250-mx\r\n250 AUTH PLAIN\r\n")
            elif line.startswith(b"AUTH"):
                words = b64decode(line.split()[2]).replace(b"\0", b" ")
                writer.write(b"535 5.7.8 not " + words + b" nor " + line.split()[2] + b"\r\n")
            else:
                writer.write(b"221 bye\r\n")
                return

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await script(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=serving(made))
    async with server:
        address = parse_server(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        keys: dict[str, Any] = {"user": USER, "password_file": str(file), "verify": "none"}
        outcome = await check(address, CheckKind.AUTH, Speech.SMTPS, **keys)
    assert told(outcome) == (Health.DOWN, "auth", "535")


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        ("x", 0o440, "others than its owner can read it (mode 440): chmod 400"),
        ("", 0o400, "it is empty"),
        (None, 0, "No such file or directory"),
    ],
)
async def test_a_password_that_cannot_be_used(
    tmp_path: Path, content: str | None, mode: int, why: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    async with playing(dialogue({})) as server:
        keys: dict[str, Any] = {"user": USER, "password_file": str(file), "verify": "none"}
        outcome = await check(server.address, CheckKind.AUTH, **keys)
        await server.over.wait()
    assert (outcome.conclusive, outcome.detail) == (False, f"password_file {file}: {why}")
    assert server.heard == [b"EHLO [127.0.0.1]\r\n", b"QUIT\r\n"]
