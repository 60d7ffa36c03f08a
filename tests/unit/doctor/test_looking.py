"""The small parts of an examination: whose words, headers, replies, certificates, /proc."""

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from random import Random

import pytest

from harness.scale import count
from mailweir.config.load import parse
from mailweir.config.words import Proxy
from mailweir.doctor import machine_facts, port_owners, text, trust
from mailweir.doctor.certificates import BadChain, Certificate, wrong_with
from mailweir.doctor.conversation import timed_reply
from mailweir.doctor.findings import Ailment, Diagnosis, Examined, NotSeen
from mailweir.doctor.mta import Mta, recognised
from mailweir.doctor.opening import CLIENT4, CLIENT6, Opening
from mailweir.doctor.reply_words import TimedReply
from mailweir.doctor.sessions_heard import Heard, literal
from mailweir.doctor.subject import subjects
from mailweir.doctor.trust import context
from mailweir.health.probes.bytestream import ByteStream
from mailweir.health.probes.reply import NoReplyError, Replies

OWN, SERVER = ("10.0.0.25", 40000), ("10.0.0.1", 25)
DAY = 86400.0
NOWHERE = Path("/nowhere/admin.sock")
_NOBODY = 65534
# Made by openssl, for a hundred years.
SERIAL = "5A17"
ISSUER = """\
-----BEGIN CERTIFICATE-----
MIIBZzCCAQ2gAwIBAgICWhcwCgYIKoZIzj0EAwIwETEPMA0GA1UEAwwGaXNzdWVy
MCAXDTI2MTIwMTE1NTIwM1oYDzIxMjYxMTA3MTU1MjAzWjARMQ8wDQYDVQQDDAZp
c3N1ZXIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATxxChXK10yPKNUUuMSjvd/
3AkrgY/hKnA4bqOBycS5AMMISdU8ELo2jD738iDyaYSZyJlEGDD84qfIx2160x8d
o1MwUTAdBgNVHQ4EFgQUJYyz/+fEoGEk9aEsHmO+hEqP3VEwHwYDVR0jBBgwFoAU
JYyz/+fEoGEk9aEsHmO+hEqP3VEwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQD
AgNIADBFAiB3UrxeKFUZr9jjwAYwF5IryJG0lHkHpFhSsauyhuDOGgIhAJskgVWl
/ObCH2Jrn/NH3wmIUGGlfbrp8g36KNaySK6e
-----END CERTIFICATE-----
"""


@pytest.mark.parametrize(
    ("mta", "said"),
    [
        (Mta.POSTFIX, "220 mx.test ESMTP Postfix (Debian/GNU)"),
        (Mta.EXIM, "220 mx.test ESMTP Exim 4.96 Mon, 30 Nov 2026 11:00:00 +0000"),
        (Mta.OPENSMTPD, "220 mx.test ESMTP OpenSMTPD"),
        (Mta.UNKNOWN, "220 mx.test ESMTP ready"),
        # Who hides its name is known by its words.
        (Mta.EXIM, "250 mx.test Hello lb.test [10.0.0.25] SIZE 52428800"),
        (Mta.EXIM, "250 mx.test Hello [10.0.0.25] [10.0.0.25] SIZE 52428800"),
        (Mta.EXIM, "250 mx.test Hello root at lb.test [2001:db8::25]"),
        # Exchange; Sendmail.
        (Mta.UNKNOWN, "250 mx.test Hello [10.0.0.25] SIZE 37748736"),
        (Mta.UNKNOWN, "250 mx.test Hello lb.test [10.0.0.25], pleased to meet you"),
        (Mta.UNKNOWN, "250 mx.test Hello lb [10.0.0.25] (may be forged), pleased to meet you"),
        (Mta.EXIM, "214 Commands supported: AUTH HELO EHLO MAIL RCPT DATA BDAT"),
        (Mta.EXIM, "503 Command refused, required Proxy negotiation failed"),
        (Mta.POSTFIX, "554 5.7.1 <x@example.com>: Relay access denied"),
        (Mta.POSTFIX, "504 5.5.2 <lb>: Helo command rejected: need fully-qualified hostname"),
        (Mta.POSTFIX, "421 4.7.0 mx.test Error: too many connections from 10.0.0.25"),
        (Mta.POSTFIX, "500 5.5.2 Error: bad syntax"),
    ],
)
def test_who_it_is(mta: Mta, said: str) -> None:
    assert recognised(["220 ready", said]).mta is mta


def test_postscreen_is_known_by_its_pause() -> None:
    postfix = ["220 wait mx.test ESMTP Postfix"]
    assert recognised(postfix, 6.0).postscreen
    assert not recognised(postfix, 0.1).postscreen
    assert not recognised(["220 mx.test ESMTP Exim"], 6.0).postscreen


def test_headers() -> None:
    assert Opening(Proxy.OFF, CLIENT4).header(OWN, SERVER) == b""
    assert Opening(Proxy.V1).header(OWN, SERVER) == b"PROXY TCP4 10.0.0.25 10.0.0.1 40000 25\r\n"
    named = Opening(Proxy.V1, CLIENT4).header(OWN, SERVER)
    assert named == b"PROXY TCP4 192.0.2.1 192.0.2.25 40025 25\r\n"
    assert Opening(Proxy.V1, CLIENT6).header(OWN, SERVER).startswith(b"PROXY TCP6 2001:db8::1 ")
    local = Opening(Proxy.V2).header(OWN, SERVER)
    assert local[12:] == b"\x20\x00\x00\x00"
    four, six = (Opening(Proxy.V2, one).header(OWN, SERVER) for one in (CLIENT4, CLIENT6))
    assert four == local[:12] + bytes.fromhex("2111000c c0000201 c0000219 9c59 0019")
    assert (six[12:16], len(six)) == (bytes.fromhex("21210024"), 16 + 36)


def test_literals() -> None:
    assert (literal("10.0.0.25"), literal("2001:db8::1")) == (
        "[10.0.0.25]",
        "[IPv6:2001:db8::1]",
    )


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (("mx.test ESMTP",), "mx.test"),
        (("wait for it", "mx.test ESMTP"), "mx.test"),
        (("mx ESMTP",), ""),
        (("a..b.test ESMTP",), ""),
        (("-a.test",), ""),
        ((f"{'a' * 64}.test",), ""),
        ((".".join(["a" * 60] * 5),), ""),
    ],
)
def test_what_it_calls_itself(lines: tuple[str, ...], name: str) -> None:
    assert Heard(Opening(Proxy.OFF), greeting=TimedReply(220, lines)).name == name


async def _of(said: bytes) -> TimedReply:
    stream = ByteStream()
    stream.data_received(said)
    stream.eof_received()
    return await timed_reply(Replies(stream), opens=True)


async def test_replies() -> None:
    found = await _of(b"250-mx.test\r\n250-SIZE 1000\r\n250 STARTTLS\r\n")
    assert (found.code, found.lines) == (250, ("mx.test", "SIZE 1000", "STARTTLS"))
    assert str(found) == "250 mx.test SIZE 1000 STARTTLS"
    assert [found.offers(one) for one in ("STARTTLS", "SIZE", "MX.TEST")] == [True, True, False]
    assert str(await _of(b"220\r\n")) == "220"
    for said in (b"", b"220-never\r\n"):
        with pytest.raises(EOFError):
            await _of(said)
    for said in (b"hello\r\n", b"+OK ready\r\n", b"2200 x\r\n", b"22\r\n", b"220 " + b"A" * 5000,
                 b"220-x\r\n" * 20_000):  # fmt: skip
        with pytest.raises(NoReplyError):
            await _of(said)


_PIECES = (b"\x1b[2J", b"\x9b31m", "\u202e\u2066".encode(), b"caf\xe9", b"\0\b\x7f\x85", b"A" * 900,
           b"\r\n", b"220-", b"220 ", b"mx.test", b" ", b"\xff")  # fmt: skip


async def test_whatever_a_server_says_is_fit_to_be_shown(counted: Callable[[str], None]) -> None:
    random = Random(1)  # noqa: S311 - chooses what is said, keeps no secret
    number, taken = count(2_000, 10_000), 0
    for _ in range(number):
        said = b"220" + b"".join(random.choices(_PIECES, k=random.randrange(8))) + b"\r\n"
        try:
            greeting = await _of(said)
        except NoReplyError as error:
            words = [str(error)]
        except EOFError:
            continue
        else:
            taken += 1
            heard = Heard(Opening(Proxy.OFF), "10.0.0.25", "[10.0.0.25]", greeting)
            words = [str(greeting), heard.last_words, heard.name]
        for shown in words:
            assert shown.isprintable()
            assert shown.isascii()
            assert len(shown) < 300
    counted(f"{number} greetings, {taken} taken for such")
    assert taken


def test_certificates() -> None:
    good = Certificate(("mx.farm.test", "*.mail.test"), 90 * DAY)
    assert wrong_with(None, "mx.farm.test", 0.0) == ""
    for name in ("mx.farm.test", "MX.farm.test.", "a.mail.test", ""):
        assert wrong_with(good, name, 0.0) == "", name
    for name in ("mail.test", "a.b.mail.test", "farm.test"):
        assert "is for mx.farm.test" in wrong_with(good, name, 0.0), name
    assert wrong_with(good, "mx.farm.test", 75 * DAY) == ""
    assert "ends in less than a day" in wrong_with(good, "mx.farm.test", 89.5 * DAY)
    assert "ends in 1 day:" in wrong_with(good, "mx.farm.test", 88.5 * DAY)
    assert "ends in 13 days" in wrong_with(good, "mx.farm.test", 76.5 * DAY)
    assert wrong_with(BadChain(10, "certificate has expired"), "", 0.0).endswith("has ended")
    assert wrong_with(BadChain(99, "odd"), "", 0.0).endswith("isn't trusted: odd")


def test_a_context_looks_at_the_chain_alone() -> None:
    assert (context(verify=True).verify_mode, context(verify=True).check_hostname) == (
        ssl.CERT_REQUIRED,
        False,
    )
    assert context(verify=False).verify_mode is ssl.CERT_NONE


def test_a_context_trusts_whom_checks_do(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    assert trust.why_not(file) == f"{file}: No such file or directory"
    file.write_text("nobody")
    assert trust.why_not(file).startswith(f"{file}: ")
    file.write_text(ISSUER)
    assert trust.why_not(file) == ""
    [only] = context(verify=True, ca=file).get_ca_certs()
    assert only["serialNumber"] == SERIAL


def test_who_listens_is_found_in_proc() -> None:
    assert str(port_owners.address("0100007F:1F90")) == "127.0.0.1:8080"
    six = "B80D0120000000000000000001000000:0019"
    assert str(port_owners.address(six)) == "[2001:db8::1]:25"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        [one] = [owner for owner in port_owners.owners() if owner.address.port == port]
    assert (one.address.ip, one.pid) == (ip_address("127.0.0.1"), os.getpid())
    assert one.name


def test_the_kernel_can_be_read() -> None:
    facts = machine_facts.read(os.getpid(), NOWHERE)
    assert facts.rights is not None
    assert facts.rights.descriptors == facts.own_descriptors > 0
    assert facts.local_ports > 0
    assert "lo" in facts.promotes
    assert machine_facts.read(None, NOWHERE).rights is None


def test_who_is_at_the_admin_socket_and_does_not_answer(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    at = closed / "admin.sock"
    assert not machine_facts.read(None, at).unasked
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(at))
        listening.listen()
        assert machine_facts.read(None, at).unasked
        assert not machine_facts.read(os.getpid(), at).unasked
    # A socket that nobody has any more, and one that may have anybody.
    assert not machine_facts.read(None, at).unasked
    closed.chmod(0)
    with _as_nobody():
        assert machine_facts.read(None, at).unasked
    closed.chmod(0o700)


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Root may open everything."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(was)


def test_who_leaves_ipv4_to_others() -> None:
    found = []
    for alone in (0, 1):
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as listening:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, alone)
            listening.bind(("::", 0))
            listening.listen()
            port = listening.getsockname()[1]
            [one] = [owner for owner in port_owners.owners() if owner.address.port == port]
            found.append(one.six_alone)
    assert found == [False, True]


def test_what_is_shown() -> None:
    found = Diagnosis("farm/a (10.0.0.1:25)", Ailment.HELO, "refuses us", "here x: y")
    examined = Examined(1, (found,), (NotSeen("servers", "SMTP doesn't say"),))
    assert [*text.lines(examined)] == [
        "farm/a (10.0.0.1:25): helo: refuses us; change: here x: y",
        "not seen: servers: SMTP doesn't say",
        "1 finding, 1 server looked at",
    ]
    assert [*text.lines(Examined(2, (), ()))] == ["no findings, 2 servers looked at"]
    assert text.answer(examined)["ok"] is False


def test_subjects() -> None:
    config = parse(
        "listeners:\n"
        '  mx: {bind: ["203.0.114.7:25", "[::]:25"], pool: farm, timeouts: {greeting: 9s}}\n'
        '  more: {bind: ["10.0.0.2:25"], pool: farm}\n'
        '  in: {bind: ["10.0.0.2:465"], pool: inside, protocol: smtps, allow: [10.0.0.0/8]}\n'
        '  raw: {bind: ["10.0.0.2:4190"], pool: raw, protocol: tcp}\n'
        "pools:\n"
        "  farm: {servers: {a: 10.0.0.1:25, b: 10.0.0.3:25}}\n"
        "  inside: {servers: {a: 10.0.0.1:465}}\n"
        "  raw: {servers: {a: 10.0.0.1:4190}}\n",
        "test.yaml",
    ).config
    a, b, inside, raw = subjects(config, None)
    assert [one.where for one in (a, b)] == ["farm/a (10.0.0.1:25)", "farm/b (10.0.0.3:25)"]
    assert (a.speaks, inside.speaks, raw.speaks) == ("smtp", "smtps", "tcp")
    assert (a.listener, a.greeting, a.ipv6_clients) == ("mx", 9.0, True)
    assert a.reached_at == (ip_address("203.0.114.7"),)
    assert (a.admits_anybody, inside.admits_anybody, inside.ipv6_clients) == (True, False, False)
    assert [one.pool for one in subjects(config, "raw")] == ["raw"]


def test_what_clients_connect_to() -> None:
    """Of the addresses that a pair moves, those that the pool's listeners are at."""
    config = parse(
        "listeners:\n"
        '  mx: {bind: ["203.0.114.7:25"], pool: farm}\n'
        '  all: {bind: ["0.0.0.0:587"], pool: inside}\n'
        '  six: {bind: ["[::]:26"], pool: six}\n'
        "pools:\n"
        "  farm: {servers: {a: 10.0.0.1:25}}\n"
        "  inside: {servers: {a: 10.0.0.1:587}}\n"
        "  six: {servers: {a: 10.0.0.1:26}}\n"
        "ha: {mode: external, virtual: [{address: 203.0.114.7/24, dev: eth0},"
        " {address: 203.0.114.8/24, dev: eth0}, {address: 2a00::8/64, dev: eth0}]}\n",
        "test.yaml",
    ).config
    assert [[str(ip) for ip in one.reached_at] for one in subjects(config, None)] == [
        ["203.0.114.7"],
        ["203.0.114.7", "203.0.114.8"],
        ["2a00::8"],
    ]


@pytest.mark.parametrize(
    ("more", "checks", "ca"),
    [
        ("", 1, None),
        ("c: {kind: starttls, ca: /ca.pem}", 2, "/ca.pem"),
        ("c: {kind: starttls, ca: /ca.pem, port: 587}", 1, "/ca.pem"),
        ("c: {kind: https, ca: /ca.pem}, d: {kind: agent, port: 99}", 1, None),
        ("c: {kind: tcp, source: 10.0.0.9}, d: {kind: tcp, source: 10.0.0.8}", 2, None),
    ],
)
def test_checks_of_a_pool(more: str, checks: int, ca: str | None) -> None:
    config = parse(
        'listeners: {mx: {bind: ["10.9.9.9:25"], pool: farm}}\n'
        "pools: {farm: {servers: {a: {address: 10.0.0.1:25, source: [10.0.0.9]}},"
        f" more_checks: {{{more}}}}}}}\n",
        "test.yaml",
    ).config
    [one] = subjects(config, None)
    assert (one.checks, one.ca) == (checks, Path(ca) if ca else None)
