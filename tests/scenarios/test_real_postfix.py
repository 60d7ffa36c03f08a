"""A real Postfix behind mailweir: mails arrive as they were sent, checks leave no trace; and one
before it: what nobody takes comes back.
"""

import base64
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.mailweir.run import Mailweir, configuration
from harness.needs import program
from harness.networks.ports import refusing
from harness.process import run
from harness.programs.postfix import DOMAIN, SMTPD, certificate, postfix
from harness.scale import count
from harness.waiting import LIMIT, until
from scenarios.conftest import Start

_HEAD = f"From: sender@client.test\nTo: box@{DOMAIN}\nSubject: as sent\n\n".encode()
# What SMTP treats in a way of its own: dots at the beginning of lines, empty lines,
# bytes that aren't ASCII, no blank at the ends of lines lost.
_DELICATE = b".\n..\n.dots\n\n\n  blanks  \ncaf\xc3\xa9\n"
_LARGE = 20 * 1024 * 1024
_CHECKS = count(20, 500)
# Port 0 and TLS from the first byte on, as on port 465.
_WRAPPED = "127.0.0.1:0 inet n - n - - smtpd -o smtpd_tls_wrappermode=yes"
# Takes mail for DOMAIN and delivers none of it itself.
_RELAYING = {
    "virtual_mailbox_domains": "",
    "smtpd_relay_restrictions": "permit_mynetworks, reject",
}


@pytest.mark.needs("postfix", "openssl", "swaks", "libnet-ssleay-perl")
def test_mails_arrive_as_they_were_sent(
    tmp_path: Path, start: Start, counted: Callable[[str], None]
) -> None:
    small = _DELICATE + b"end"
    large = _DELICATE + _lines(_LARGE) + b"end"
    with postfix(tmp_path) as server:
        balancer = start(configuration(tmp_path, {"a": server.address}))
        said = _swaks(balancer, tmp_path / "small.eml", small, "--tls")
        assert "220 2.0.0 Ready to start TLS" in said
        assert _digests(server.delivered(1)) == [_digest(small)]
        _swaks(balancer, tmp_path / "large.eml", large)
        delivered = server.delivered(2)

        for what, body in (("STARTTLS", small), ("plain", large)):
            counted(f"{what}, {len(body) + 1} bytes, SHA-256 {_digest(body)}")
        assert _digests(delivered) == [_digest(small), _digest(large)]
        until(lambda: server.log.count("status=sent") == 2, "Postfix to log the delivery")
        assert server.log.count("TLS connection established") == 1
        # Checks say QUIT, and so did swaks.
        assert "lost connection" not in server.log


@pytest.mark.needs("postfix", "openssl", "swaks", "libnet-ssleay-perl")
def test_mails_arrive_where_tls_comes_first(tmp_path: Path, start: Start) -> None:
    with postfix(tmp_path, services=[_WRAPPED]) as server:
        balancer = start(configuration(tmp_path, {"a": server.address}, protocol="smtps"))
        said = _swaks(balancer, tmp_path / "mail.eml", _DELICATE, "--tls-on-connect")
        # The certificate is the server's own.
        assert f"CN=mx.{DOMAIN}" in said
        assert _digests(server.delivered(1)) == [_digest(_DELICATE)]


@pytest.mark.needs("postfix", "openssl")
@pytest.mark.parametrize(
    ("services", "protocol", "options"),
    [([SMTPD], "smtp", ["-starttls", "smtp"]), ([_WRAPPED], "smtps", [])],
    ids=["starttls", "smtps"],
)
def test_each_name_has_its_own_certificate(
    tmp_path: Path, start: Start, services: list[str], protocol: str, options: list[str]
) -> None:
    """The server hears which name the client means, and the client trusts nobody else."""
    certificates = {}
    for name in ("one.test", "other.test"):
        (tmp_path / name).mkdir()
        certificates[name] = certificate(tmp_path / name, name)
        cert, key = certificates[name]
        (tmp_path / f"{name}.pem").write_text(key.read_text() + cert.read_text())
    chains = " ".join(f"{{ {name} = {tmp_path}/{name}.pem }}" for name in certificates)
    settings = {"tls_server_sni_maps": f"inline:{{ {chains} }}"}
    with postfix(tmp_path, settings=settings, services=services) as server:
        balancer = start(configuration(tmp_path, {"a": server.address}, protocol=protocol))
        for name, (cert, _) in certificates.items():
            to = ["-connect", "{}:{}".format(*balancer.address()), "-servername", name]
            trust = ["-CAfile", str(cert), "-verify_return_error", "-verify_hostname", name]
            done = run([program("openssl"), "s_client", *to, *trust, *options])
            assert done.returncode == 0, done.stdout + done.stderr
            assert "Verify return code: 0 (ok)" in done.stdout
            assert cert.read_text() in done.stdout


@pytest.mark.needs("postfix", "openssl")
@pytest.mark.parametrize("kind", ["ehlo", "tcp"])
def test_checks_leave_a_clean_log(
    tmp_path: Path, start: Start, counted: Callable[[str], None], kind: str
) -> None:
    with postfix(tmp_path) as server:
        check = {"kind": kind, "every": "100ms", "fast": "100ms"}
        start(configuration(tmp_path, {"a": server.address}, check=check))
        until(
            lambda: server.log.count(": disconnect from") >= _CHECKS,
            f"{_CHECKS} checks in the log",
            limit=_CHECKS + LIMIT,
        )
        log = server.log
    counted(f"{log.count(': disconnect from')} checks by {kind}")
    complaints = re.findall(
        r".*smtpd\[.*(?:lost connection|improper|timeout|warning|error|fatal).*", log
    )
    assert not complaints


@pytest.mark.needs("postfix", "openssl", "swaks")
def test_what_nobody_takes_comes_back(tmp_path: Path, start: Start) -> None:
    """Postfix before mailweir, which has no server: it keeps the mail and delivers it later."""
    for name in ("receiver", "sender"):
        (tmp_path / name).mkdir()
    with refusing() as dead, postfix(tmp_path / "receiver") as receiver:
        config = configuration(tmp_path, {"a": dead}, check={"fast": "100ms", "rise": 1})
        balancer = start(config)
        relay = "[{}]:{}".format(*balancer.address())
        with postfix(tmp_path / "sender", settings=_RELAYING | {"relayhost": relay}) as sender:
            _send(sender.address, tmp_path / "mail.eml", _DELICATE)
            until(lambda: "status=deferred" in sender.log, "the mail to be put off")
            assert "refused to talk to me: 421 4.3.2" in sender.log
            config["pools"]["farm"]["servers"]["a"] = receiver.address
            balancer.write(config)
            assert balancer.command("reload").returncode == 0
            until(lambda: balancer.server_is("a", "up"), "the server to be up")
            sender.flush()
            assert len(receiver.delivered(1)) == 1
            until(lambda: "status=sent" in sender.log, "the sender to know")
            assert receiver.log.count("status=sent") == 1


@pytest.mark.needs("swaks")
def test_swaks_is_told_to_come_back(tmp_path: Path, start: Start) -> None:
    with refusing() as dead:
        balancer = start(configuration(tmp_path, {"a": dead}))
        server = ["--server", "{}:{}".format(*balancer.address())]
        sent = run([program("swaks"), *server, "--from", "a@client.test", "--to", f"box@{DOMAIN}"])
    assert sent.returncode != 0
    assert "<** 421 4.3.2 " in sent.stdout
    # It got no further than the greeting, and was not reset.
    assert "EHLO" not in sent.stdout
    assert "reset" not in sent.stdout + sent.stderr


def _lines(size: int) -> bytes:
    """Text of about this size that no two runs share."""
    return base64.encodebytes(os.urandom(size * 3 // 4))


def _swaks(balancer: Mailweir, file: Path, body: bytes, *options: str) -> str:
    """Send a mail through mailweir; the dialogue."""
    return _send("{}:{}".format(*balancer.address()), file, body, *options)


def _send(server: str, file: Path, body: bytes, *options: str) -> str:
    """Send a mail; the dialogue. swaks ends the last line itself."""
    file.write_bytes(_HEAD + body)
    to = ["--server", server, "--to", f"box@{DOMAIN}"]
    quietly = ["--suppress-data", "--from", "sender@client.test", "--data", f"@{file}"]
    sent = run([program("swaks"), *to, *quietly, *options], limit=60)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    return sent.stdout


def _digest(body: bytes) -> str:
    """Of a body that was given to swaks, as a mailbox stores it."""
    return hashlib.sha256(body + b"\n").hexdigest()


def _digests(mails: list[bytes]) -> list[str]:
    """Of the bodies of stored mails."""
    return [hashlib.sha256(mail.partition(b"\n\n")[2]).hexdigest() for mail in mails]
