"""A real postscreen behind mailweir: who waits for the greeting gets through, who talks
before it is still caught, each by its own address.
"""

from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.run import configuration
from harness.networks.own import ClientFrom
from harness.programs.postfix import DOMAIN, POSTSCREEN, POSTSCREEN_SETTINGS, postfix
from harness.waiting import until
from scenarios.conftest import Start

_PATIENT, _HASTY = "127.25.0.1", "127.25.0.2"


@pytest.mark.needs("postfix", "openssl")
def test_who_talks_early_is_still_caught(tmp_path: Path, start: Start) -> None:
    with postfix(tmp_path, services=POSTSCREEN, settings=POSTSCREEN_SETTINGS) as server:
        servers = {"a": {"address": server.address, "proxy": "v2"}}
        balancer = start(configuration(tmp_path, servers))
        # Its check has to wait for the greeting as well.
        until(lambda: balancer.server_is("a", "up"), "the check to be through")
        with (
            ClientFrom(_PATIENT, balancer.address()) as patient,
            ClientFrom(_HASTY, balancer.address()) as hasty,
        ):
            port = hasty.socket.getsockname()[1]
            hasty.send(b"EHLO hasty.test\r\n")
            for client in (patient, hasty):
                assert client.line() == "220-wait for it"
            _deliver(patient)
            _is_caught(hasty)

        [mail] = server.delivered(1)
        assert f"by mx.{DOMAIN} (Postfix)".encode() in mail
        assert f"[{_PATIENT}])".encode() in mail
        [caught] = [line for line in server.log.splitlines() if "PREGREET" in line]
        assert "PREGREET 17 after 0" in caught
        assert caught.partition(" from ")[2] == rf"[{_HASTY}]:{port}: EHLO hasty.test\r\n"
        until(lambda: f"disconnect from unknown[{_PATIENT}]" in server.log, "the end in the log")
        # Checks are mailweir's own sessions, and as patient.
        assert "PASS NEW [127.0.0.1]" in server.log
        assert "HANGUP" not in server.log


def _deliver(client: Client) -> None:
    client.expect("220 ")
    client.expect("250", "EHLO client.test")
    client.mail(f"box@{DOMAIN}")


def _is_caught(client: Client) -> None:
    # It hears no greeting any more; the answer to what it said early is the first thing.
    client.expect("250 ")
    client.expect("250", "MAIL FROM:<sender@client.test>")
    client.expect("550 5.5.1 Protocol error", f"RCPT TO:<box@{DOMAIN}>")
    client.expect("221", "QUIT")
