"""Real faults of a real Postfix: each is seen by the check of its kind, and by no other."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest

from harness.mailweir.run import Mailweir, Tree, configuration
from harness.needs import program
from harness.networks.ports import SERVER_HOST, unused_port
from harness.process import run
from harness.programs.alerts import fired
from harness.programs.postfix import DOMAIN, SMTPD, postfix
from harness.servers.certificates import certificate
from harness.waiting import LIMIT, until
from scenarios.conftest import Start

Counted = Callable[[str], None]

_FALL, _EVERY = 3, 1.0
_PACE = {"every": "1s", "fast": "1s", "fall": _FALL, "rise": 2}
_BOX = f"box@{DOMAIN}"
_CHECKS = ("check", "certificate", "recipient", "mail")


def _config(directory: Path, server: str, box: Path) -> Tree:
    config = configuration(directory, {"a": server}, check=_PACE)
    tls = {"kind": "starttls", "verify": "none", "decides": "alarm"}
    mail = {"kind": "message", "rcpt_to": _BOX, "arrives": {"maildir": str(box)}}
    config["pools"]["farm"] |= {
        # What checks say of it, and not what becomes of a pool that has no other server.
        "panic": "0%",
        "more_checks": {
            "certificate": {**tls, **_PACE},
            "recipient": {"kind": "rcpt", "rcpt_to": _BOX, **_PACE},
            "mail": {**mail, "decides": "alarm", "timeout": "5s", **_PACE},
        },
    }
    return config


def _says(balancer: Mailweir) -> dict[str, str]:
    """What each check says by now."""
    shown = balancer.server("a")
    return {check["name"]: check["health"] for check in shown["checks"]}


def _all_up(balancer: Mailweir) -> bool:
    made = all(check["results"] for check in balancer.server("a")["checks"])
    return made and set(_says(balancer).values()) == {"up"}


@contextmanager
def _small_disk() -> Iterator[Path]:
    """Of 8 MiB, mounted for this process and its children."""
    folder = Path(mkdtemp(prefix="mailweir-queue-"))
    mounted = [program("mount"), "-t", "tmpfs", "-o", "size=8m,mode=755", "queue", str(folder)]
    assert run(mounted).returncode == 0
    try:
        yield folder
    finally:
        run([program("umount"), "--lazy", str(folder)])
        folder.rmdir()


@pytest.mark.needs("postfix", "openssl")
def test_a_queue_that_is_full(tmp_path: Path, start: Start, counted: Counted) -> None:
    with _small_disk() as queue:
        settings = {"queue_directory": str(queue), "message_size_limit": "1000000"}
        with postfix(tmp_path, settings=settings) as server:
            balancer = start(_config(tmp_path, server.address, server.box))
            balancer.process.until(lambda: _all_up(balancer), "all checks to pass")
            (queue / "filler").write_bytes(bytes(7_200_000))
            began = time.monotonic()
            until(lambda: balancer.server_is("a", "drain"), "the drain")
            seconds = time.monotonic() - began
            shown = balancer.command("servers").stdout
            assert "drain (recipient: 452 4.3.1 Insufficient system storage)" in shown
            says = _says(balancer)
            assert (says["check"], says["certificate"]) == ("up", "up")
            assert says["recipient"] == "drain"
            (queue / "filler").unlink()
            until(lambda: balancer.server_is("a", "up"), "it to come back by itself")
            until(lambda: _all_up(balancer), "all checks to pass again")
    # A check that was under way, and the jitter of those that follow it, come on top.
    bound = _FALL * _EVERY * 1.2
    counted(
        f"drain {seconds:.1f} s after the queue was full; fall x every is {bound:.1f} s at most"
    )
    assert seconds < bound + LIMIT / 10


@pytest.mark.needs("postfix", "openssl")
def test_mails_arrive_where_mailweir_listens(tmp_path: Path, start: Start) -> None:
    """Postfix brings them by LMTP; nothing is said of each in the log."""
    place = f"{SERVER_HOST}:{unused_port()}"
    services = (SMTPD, "lmtp unix - - n - - lmtp")
    host, _, port = place.partition(":")
    settings = {"virtual_transport": f"lmtp:inet:{host}:{port}"}
    with postfix(tmp_path, services=services, settings=settings) as server:
        config = _config(tmp_path, server.address, server.box)
        config["pools"]["farm"]["more_checks"]["mail"]["arrives"] = {"lmtp": place}
        balancer = start(config)
        until(lambda: _passed(balancer, "mail") > _FALL, "mails to arrive")
        assert _says(balancer)["mail"] == "up"
        log = balancer.process.err
    assert [line for line in log.splitlines() if not line.startswith("ts=")] == []
    assert "level=info" in log
    assert not re.search("RCPT|DATA|LHLO|connection lost", log)


@pytest.mark.needs("postfix", "openssl", "prometheus")
def test_a_certificate_that_ended(tmp_path: Path, start: Start) -> None:
    made = certificate(tmp_path, f"mx.{DOMAIN}", days=-1)
    settings = {"smtpd_tls_cert_file": str(made.cert), "smtpd_tls_key_file": str(made.key)}
    with postfix(tmp_path, settings=settings) as server:
        balancer = start(_config(tmp_path, server.address, server.box))
        until(lambda: _says(balancer)["certificate"] == "down", "the certificate to be seen")
        _others_stay_up(balancer, "certificate")
        assert balancer.server_is("a", "up")  # it decides of an alarm alone
        assert "certificate: certificate: it ended on 2" in balancer.command("servers").stdout
        labels = {"pool": "farm", "server": "a", "check": "certificate"}
        assert balancer.metric("mailweir_check_alarm", **labels) == 1
        found = fired("mailweir.rules.yml", balancer.page("/metrics"), tmp_path)
        assert "MailweirCheckAlarm" in found


@pytest.mark.needs("postfix", "openssl")
def test_a_content_filter_that_is_dead(tmp_path: Path, start: Start) -> None:
    # Nothing listens at the discard port.
    with postfix(tmp_path, settings={"content_filter": "smtp:[127.0.0.1]:9"}) as server:
        # A mail has come before: that none ever did may be a wrong path of ours.
        (server.box / "new").mkdir(parents=True)
        balancer = start(_config(tmp_path, server.address, server.box))
        until(lambda: _says(balancer)["mail"] == "down", "mails to be missed")
        _others_stay_up(balancer, "mail")
        assert "arrival: no mail within 5s" in balancer.command("servers", "farm/a").stdout


@pytest.mark.needs("postfix", "openssl")
def test_a_server_that_is_stopped_while_it_is_checked(tmp_path: Path, start: Start) -> None:
    with postfix(tmp_path) as server:
        balancer = start(_config(tmp_path, server.address, server.box))
        balancer.process.until(lambda: _all_up(balancer), "all checks to pass")
    until(lambda: balancer.server_is("a", "down"), "it to be down")
    until(lambda: set(_says(balancer).values()) == {"down"}, "every check to see it")
    assert balancer.status()["faults"] == []
    assert "Traceback" not in balancer.process.err
    shown = balancer.command("servers", "farm/a").stdout
    assert "connect: Connection refused" in shown


def _others_stay_up(balancer: Mailweir, one: str) -> None:
    """As often as the check that fails has to fail, and more."""
    others = [name for name in _CHECKS if name != one]
    before = {name: _passed(balancer, name) for name in others}
    until(
        lambda: all(_passed(balancer, name) > before[name] + _FALL for name in others),
        "more of the other checks",
    )
    assert {name: state for name, state in _says(balancer).items() if name != one} == dict.fromkeys(
        others, "up"
    )


def _passed(balancer: Mailweir, check: str) -> float:
    try:
        return balancer.metric("mailweir_check_results_total", check=check, verdict="up")
    except AssertionError:
        return 0.0  # none yet
