"""A real Postfix behind mailweir: STARTTLS and large mails arrive as they were sent."""

import base64
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.mailweir import Mailweir, configuration
from harness.needs import program
from harness.postfix import DOMAIN, postfix
from harness.process import run
from harness.waiting import until
from scenarios.conftest import Start

_HEAD = f"From: sender@client.test\nTo: box@{DOMAIN}\nSubject: as sent\n\n".encode()
# What SMTP treats in a way of its own: dots at the beginning of lines, empty lines,
# bytes that aren't ASCII, no blank at the ends of lines lost.
_DELICATE = b".\n..\n.dots\n\n\n  blanks  \ncaf\xc3\xa9\n"
_LARGE = 20 * 1024 * 1024


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


def _lines(size: int) -> bytes:
    """Text of about this size that no two runs share."""
    return base64.encodebytes(os.urandom(size * 3 // 4))


def _swaks(balancer: Mailweir, file: Path, body: bytes, *options: str) -> str:
    """Send a mail; the dialogue. swaks ends the last line itself."""
    file.write_bytes(_HEAD + body)
    to = ["--server", "{}:{}".format(*balancer.address()), "--to", f"box@{DOMAIN}"]
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
