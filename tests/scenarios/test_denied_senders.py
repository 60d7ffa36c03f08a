"""What real senders make of being denied, by each `deny_code`: `docs/limits.md` says it so."""

from pathlib import Path

import pytest

from harness.mailweir.run import Mailweir, configuration
from harness.needs import program
from harness.networks.ports import refusing
from harness.process import run
from harness.programs.exim import LIBRARIES, exim
from harness.programs.postfix import DOMAIN, postfix
from harness.waiting import until
from scenarios.conftest import Start

_FROM, _TO = "sender@client.test", f"box@{DOMAIN}"
# Takes mail for DOMAIN and delivers none of it itself.
_RELAYING = {
    "virtual_mailbox_domains": "",
    "smtpd_relay_restrictions": "permit_mynetworks, reject",
}
_SAID = {554: "554 5.7.1 ", 421: "421 4.7.1 "}


@pytest.mark.needs("postfix", "openssl", "swaks")
@pytest.mark.parametrize("code", _SAID)
def test_postfix_tries_again(tmp_path: Path, start: Start, code: int) -> None:
    relay = "[{}]:{}".format(*_denying(tmp_path, start, code).address())
    with postfix(tmp_path, settings=_RELAYING | {"relayhost": relay}) as sender:
        sends = [program("swaks"), "--server", sender.address, "--from", _FROM, "--to", _TO]
        assert run(sends).returncode == 0
        until(lambda: "status=" in sender.log, "the mail to be tried")
        assert "status=deferred" in sender.log
        assert f"refused to talk to me: {_SAID[code]}" in sender.log


@pytest.mark.needs("postfix", *LIBRARIES)
@pytest.mark.parametrize(("code", "mark"), [(554, "**"), (421, "==")])
def test_exim_returns_mail_at_554(tmp_path: Path, start: Start, code: int, mark: str) -> None:
    host, port = _denying(tmp_path, start, code).address()
    with exim() as sender:
        command = sender.command("onward", f"{host}::{port}", "hosts_avoid_tls = *")
        run([*command, "-f", _FROM, _TO], told="Subject: denied\n\ntext\n")
        # Of a mail that is put off it says ==, of one that is returned ** (spec.txt, 53.1).
        lines = [line for line in sender.log.splitlines() if f"{mark} {_TO} " in line]
    assert lines, sender.log
    assert f"after initial connection: {_SAID[code]}" in lines[0]


def _denying(directory: Path, start: Start, code: int) -> Mailweir:
    """Lets nobody in of this machine."""
    with refusing() as dead:
        config = configuration(directory, {"a": dead})
    config["listeners"]["mx"] |= {"deny": ["127.0.0.0/8"], "deny_code": code}
    return start(config)
