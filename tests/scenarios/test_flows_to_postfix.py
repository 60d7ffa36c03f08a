"""A real Postfix behind the kernel path: it sees who the client is, and takes every mail once."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.kernel_rig import PORT, Rig, kernel_rig, rig_configuration
from harness.needs import program
from harness.networks.row import CLIENT, LISTENER, SERVER, row
from harness.programs.postfix import DOMAIN, Postfix, postfix
from harness.scale import count
from harness.waiting import LIMIT, until

_MAILS = count(200, 5000)
_SMTPD = f"{SERVER}:{PORT} inet n - n - - smtpd"
_POSTSCREEN = (
    f"{SERVER}:{PORT} inet n - n - 1 postscreen",
    "smtpd pass - - n - - smtpd",
    "tlsproxy unix - - n - 0 tlsproxy",
    "dnsblog unix - - n - 0 dnsblog",
)
_SETTINGS = {
    "inet_interfaces": SERVER,
    "smtpd_upstream_proxy_protocol": "haproxy",
    "smtpd_peername_lookup": "no",
    "smtpd_client_connection_count_limit": "0",
}
_SCREENING = {
    "inet_interfaces": SERVER,
    "postscreen_upstream_proxy_protocol": "haproxy",
    "postscreen_greet_banner": "wait for it",
    "postscreen_greet_wait": "6s",
    "postscreen_greet_action": "enforce",
    "postscreen_access_list": "",
    "smtpd_peername_lookup": "no",
}

Counted = Callable[[str], None]

pytestmark = pytest.mark.needs("postfix", "openssl", "iproute2", "nftables", "clang")


@contextmanager
def _before_postfix(
    directory: Path, services: tuple[str, ...], settings: dict[str, str]
) -> Iterator[tuple[Rig, Postfix]]:
    config = rig_configuration(directory)
    config["pools"]["farm"] = {
        "servers": {"a": {"address": f"{SERVER}:{PORT}", "proxy": "v2"}},
        "check": {"every": "1h"},
    }
    with (
        row() as networks,
        postfix(
            directory, services=services, settings=settings, before=networks.before("s")
        ) as server,
        kernel_rig(networks, directory, config) as rig,
    ):
        yield rig, server


@pytest.mark.needs("swaks", "libnet-ssleay-perl")
def test_mails_by_the_thousand(tmp_path: Path, counted: Counted) -> None:
    with _before_postfix(tmp_path, (_SMTPD,), _SETTINGS) as (rig, server):
        to = f"inet:{LISTENER}:{PORT}"
        load = ["-s", "20", "-m", str(_MAILS), "-f", "a@client.test", "-t", f"box@{DOMAIN}"]
        source = [program("smtp-source"), *load, to]
        assert rig.networks.run("c", *source, limit=LIMIT + _MAILS / 20) == ""
        to = f"{LISTENER}:{PORT}"
        swaks = [program("swaks"), "--tls", "--server", to, "--to", f"box@{DOMAIN}"]
        said = rig.networks.run("c", *swaks, "--from", "a@client.test")
        assert "Ready to start TLS" in said
        assert "<~  250 2.0.0 Ok: queued" in said
        number = _MAILS + 1
        assert len(server.delivered(number)) == number
        until(lambda: len(rig.balancer.session_log()) == number, "all in the log")
        log = rig.balancer.session_log()
        paths = Counter(line["path"] for line in log)
        reasons = Counter(line["end_reason"] for line in log)
        until(
            lambda: server.log.count(f" disconnect from unknown[{CLIENT}]") == number,
            "the ends in its log",
        )
        mail_log = server.log
        counted(f"{number} mails, one by STARTTLS: {dict(paths)}, {dict(reasons)}")
    assert paths == {"kernel": number}
    # Inside TLS nobody sees the QUIT.
    assert reasons == {"client_quit": _MAILS, "tls_closed": 1}
    (encrypted,) = [line for line in log if line["tls"]]
    assert encrypted["end_reason"] == "tls_closed"
    assert mail_log.count(f" connect from unknown[{CLIENT}]") == number
    assert "lost connection" not in mail_log


def test_postscreen(tmp_path: Path) -> None:
    with _before_postfix(tmp_path, _POSTSCREEN, _SCREENING) as (rig, server):
        patient, hasty = rig.client(), rig.client()
        with patient, hasty:
            hasty.send(b"EHLO hasty.test\r\n")
            for client in (patient, hasty):
                assert client.line() == "220-wait for it"
            _deliver(patient)
        assert len(server.delivered(1)) == 1
        until(lambda: "PREGREET 17 after 0" in server.log, "the hasty one to be caught")
        until(lambda: len(rig.balancer.session_log()) == 2, "both in the log")
        paths = Counter(line["path"] for line in rig.balancer.session_log())
    assert paths == {"kernel": 1, "copy": 1}


def _deliver(client: Client) -> None:
    client.expect("220 ")
    client.expect("250", "EHLO client.test")
    client.mail(f"box@{DOMAIN}")
