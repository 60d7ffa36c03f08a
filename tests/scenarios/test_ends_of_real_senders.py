"""Sessions that went well are recorded so, whatever sends them: in plain text as `client_quit`,
inside TLS as `tls_closed`, with mails of all sizes, on the relay.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.mailweir import Mailweir, configuration
from harness.needs import program
from harness.postfix import DOMAIN, SMTPD, postfix
from harness.process import run
from harness.scale import count
from harness.waiting import LIMIT, until
from scenarios.conftest import Start

_SESSIONS = count(4, 1000)  # of each client, for each way
_WRAPPED = "127.0.0.2:0 inet n - n - - smtpd -o smtpd_tls_wrappermode=yes"
_SIZES = [1024, 300 * 1024, 20 * 1024 * 1024]
_FROM, _TO = "sender@client.test", f"box@{DOMAIN}"

Counted = Callable[[str], None]


@pytest.mark.needs("postfix", "openssl", "swaks", "libnet-ssleay-perl", "msmtp")
def test_ends_in_order_are_told_as_such(tmp_path: Path, start: Start, counted: Counted) -> None:
    with postfix(tmp_path, services=[SMTPD, _WRAPPED]) as server:
        balancer = _before(tmp_path, start, server.ports)
        plain, wrapped = balancer.address("mx"), balancer.address("wrapped")
        small = _mail(tmp_path, 1024)
        ways = {
            "swaks": _swaks(plain, small),
            "swaks, STARTTLS": _swaks(plain, small, "--tls"),
            "swaks, smtps": _swaks(wrapped, small, "--tls-on-connect"),
            "msmtp": _msmtp(plain),
            "msmtp, STARTTLS": _msmtp(plain, "--tls=on", "--tls-starttls=on"),
            "msmtp, smtps": _msmtp(wrapped, "--tls=on", "--tls-starttls=off"),
        }
        for way, command in ways.items():
            word = "tls_closed" if "," in way else "client_quit"
            _send(balancer, way, command, small, _SESSIONS, word, counted)
        for size in _SIZES:
            mail = _mail(tmp_path, size)
            number = max(2, _SESSIONS // 100)
            for word, options in (("client_quit", []), ("tls_closed", ["--tls"])):
                command = _swaks(plain, mail, *options)
                _send(balancer, f"swaks, {size} bytes", command, mail, number, word, counted)


def _send(
    balancer: Mailweir,
    way: str,
    command: list[str],
    mail: Path,
    number: int,
    word: str,
    counted: Counted,
) -> None:
    """So many sessions, of which 99 of 100 are to end by `word`."""
    before = len(balancer.session_log())
    for _ in range(number):
        # swaks reads the file itself.
        told = mail.read_text() if "--data" not in command else ""
        sent = run(command, limit=3 * LIMIT, told=told)
        assert sent.returncode == 0, sent.stdout + sent.stderr
    until(lambda: len(balancer.session_log()) == before + number, "all in the log")
    lines = balancer.session_log()[before:]
    ends = Counter(f"{line['end_reason']} by {line['end_by']}" for line in lines)
    counted(f"{way}: {dict(ends)}")
    assert {line["path"] for line in lines} <= {"copy", "splice"}
    in_order = sum(line["end_reason"] == word for line in lines)
    assert in_order >= 0.99 * number


def _before(directory: Path, start: Start, ports: list[int]) -> Mailweir:
    config = configuration(directory, {}, forwarding="relay")
    kinds = (("mx", "smtp", "127.0.0.1"), ("wrapped", "smtps", "127.0.0.2"))
    for (name, protocol, host), port in zip(kinds, ports, strict=True):
        config["listeners"][name] = {"bind": ["127.0.0.1:0"], "protocol": protocol, "pool": name}
        servers = {"a": {"address": f"{host}:{port}", "proxy": "off"}}
        config["pools"][name] = {"servers": servers, "check": {"kind": "tcp", "every": "1h"}}
    del config["pools"]["farm"]
    return start(config)


def _mail(directory: Path, size: int) -> Path:
    file = directory / f"{size}.eml"
    file.write_text("Subject: an end\n\n" + ("x" * 70 + "\n") * (size // 71))
    return file


def _swaks(address: tuple[str, int], mail: Path, *options: str) -> list[str]:
    to = ["--server", "{}:{}".format(*address), "--from", _FROM, "--to", _TO]
    return [program("swaks"), *to, "--suppress-data", "--data", f"@{mail}", *options]


def _msmtp(address: tuple[str, int], *options: str) -> list[str]:
    to = [f"--host={address[0]}", f"--port={address[1]}", f"--from={_FROM}"]
    trust = ["--tls-certcheck=off"] if options else []
    return [program("msmtp"), "--file=/dev/null", *to, *options, *trust, _TO]
