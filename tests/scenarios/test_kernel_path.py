"""Sessions that go on in the kernel: what both ends see of them, and what is known of them.

Three networks in a row, mailweir in the middle one.
"""

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from harness.clients.smtpload import Smtpload
from harness.mailweir.kernel_rig import (
    GREETING,
    PORT,
    kernel_rig,
    polite,
    rig_configuration,
    serving_there,
)
from harness.mailweir.run import COMMAND
from harness.networks.row import LISTENER, SERVER, row
from harness.process import run
from harness.scale import count
from harness.servers.exact import echo, exchange
from harness.waiting import LIMIT, until

_SESSIONS = count(3, 30)
_SENDERS = count(100, 500)
_NOBODY = 3.0  # seconds

Counted = Callable[[str], None]

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


@pytest.mark.parametrize(("size", "loss"), [(8 << 20, 0), (1 << 20, 1), (1 << 18, 5)])
def test_bytes_arrive_as_they_were_sent(
    tmp_path: Path, counted: Counted, size: int, loss: int
) -> None:
    with (
        row() as networks,
        serving_there(networks, echo),
        kernel_rig(networks, tmp_path, rig_configuration(tmp_path)) as rig,
    ):
        if loss:
            networks.lose(loss)
        for _ in range(_SESSIONS):
            same = networks.inside("c", partial(exchange, size))
            assert same.result(LIMIT), "the same bytes came back"
        until(lambda: len(rig.balancer.session_log()) == _SESSIONS, "all in the log")
        log = rig.balancer.session_log()
        counted(f"{_SESSIONS} sessions of {size} bytes each way, {loss} % lost: byte-exact")
    told = 20 * len(b"NOOP\r\n")
    sizes = {(line["received_bytes"], line["sent_bytes"]) for line in log}
    assert sizes == {(size + told, len(GREETING) + size + told)}
    assert {line["path"] for line in log} == {"kernel"}
    assert {line["end_reason"] for line in log} == {"client_closed"}


def test_sessions_outlive_the_process(tmp_path: Path, counted: Counted) -> None:
    """A process that is killed takes no session with it; the next one goes on with all of them."""
    config = rig_configuration(tmp_path)
    with row() as networks, serving_there(networks, polite), ExitStack() as exits:
        with kernel_rig(networks, tmp_path, config) as rig:
            clients = [exits.enter_context(rig.client()) for _ in range(_SESSIONS)]
            for client in clients:
                client.expect("220")
                client.expect("250", "EHLO client.test")
            until(lambda: rig.flows() == _SESSIONS, "all to be flows")
            before = {one["id"]: one for one in rig.sessions()}
            rig.balancer.process.kill()
        for client in clients:
            client.expect("250", "NOOP")
        with kernel_rig(networks, tmp_path, config) as rig:
            after = {one["id"]: one for one in rig.sessions()}
            assert after.keys() == before.keys()
            assert {one["server"] for one in after.values()} == {"a"}
            assert rig.balancer.servers()["a"]["active"] == _SESSIONS
            assert rig.balancer.status()["sessions"] == _SESSIONS
            assert rig.balancer.metric("mailweir_kernel_path_adopted_total") == _SESSIONS
            with rig.client() as another:
                another.begin_mail()
                another.expect("250", "hello\r\n.")
                another.expect("221", "QUIT")
            for client in clients:
                client.mail()
                client.close()
            until(lambda: rig.balancer.status()["sessions"] == 0, "all sessions to end")
            until(lambda: len(rig.balancer.session_log()) == _SESSIONS + 1, "all in the log")
            log = {line["id"]: line for line in rig.balancer.session_log() if line["id"] in before}
    assert log.keys() == before.keys()
    for line in log.values():
        assert (line["listener"], line["pool"], line["server"]) == ("mx", "farm", "a")
        assert (line["path"], line["end_reason"], line["greeting_code"]) == (
            *("kernel", "client_quit"),
            220,
        )
        assert line["duration_ms"] > line["wait_ms"] > 0
    sizes = {(line["received_bytes"], line["sent_bytes"]) for line in log.values()}
    assert len(sizes) == 1, "all said and heard the same"
    counted(f"{_SESSIONS} sessions outlived the process: {sizes}")


def test_what_ends_while_nobody_is_there(tmp_path: Path) -> None:
    """The next process closes the records of those, and only of those."""
    config = rig_configuration(tmp_path)
    with row() as networks, serving_there(networks, polite):
        with kernel_rig(networks, tmp_path, config) as rig:
            with rig.client() as early:
                early.expect("220")
                until(lambda: rig.flows() == 1, "the first to be a flow")
                early.mail()
            recorded = rig.record()
            late = rig.client()
            late.expect("220")
            until(lambda: rig.flows() == 1, "the second to be a flow")
            rig.balancer.process.kill()
        with late:
            late.expect("250", "EHLO client.test")
            late.mail()
        with kernel_rig(networks, tmp_path, config) as rig:
            until(lambda: rig.balancer.metric("mailweir_kernel_path_adopted_total") == 1, "it")
            record = rig.record(2)
            assert rig.balancer.status()["sessions"] == 0
            assert rig.balancer.servers()["a"]["active"] == 0
    assert record["id"] != recorded["id"]
    for line in (recorded, record):
        assert (line["path"], line["end_reason"]) == ("kernel", "client_quit")
    assert record["received_bytes"] == recorded["received_bytes"] + len("EHLO client.test\r\n")


def test_a_stop_leaves_flows_to_the_next_process(tmp_path: Path) -> None:
    """At TERM's deadline a message is under way: its session goes on, and has not ended."""
    config = rig_configuration(tmp_path, drain={"deadline": "1s"})
    with row() as networks, serving_there(networks, polite), ExitStack() as exits:
        with kernel_rig(networks, tmp_path, config) as rig:
            clients = [exits.enter_context(rig.client()) for _ in range(_SESSIONS)]
            for client in clients:
                client.begin_mail()
            until(lambda: rig.flows() == _SESSIONS, "all to be flows")
            before = {one["id"] for one in rig.sessions()}
            rig.balancer.process.send(signal.SIGTERM)
            assert rig.balancer.process.wait() == 0
            said = rig.balancer.process.err
        assert f'sessions in the kernel go on for the next process" sessions={_SESSIONS}' in said
        assert rig.balancer.session_log() == []
        for client in clients:
            client.expect("250", "Subject: hello\r\n\r\nhello\r\n.")
        with kernel_rig(networks, tmp_path, config) as rig:
            assert {one["id"] for one in rig.sessions()} == before
            for client in clients:
                client.expect("221", "QUIT")
                client.close()
            until(lambda: len(rig.balancer.session_log()) == _SESSIONS, "all in the log")
            log = rig.balancer.session_log()
            assert rig.balancer.status()["sessions"] == 0
    assert {line["id"] for line in log} == before
    assert {(line["path"], line["end_reason"]) for line in log} == {("kernel", "client_quit")}


def test_senders_do_not_notice_a_kill(
    tmp_path: Path, smtpload_binary: Path, counted: Counted
) -> None:
    """While they send the process is killed, for a while there is none, and another one begins."""
    config = rig_configuration(tmp_path)
    load = [
        f"--sessions={_SENDERS}",
        f"--concurrency={_SENDERS}",
        "--messages=100",
        "--think=100ms",
    ]
    with row() as networks:
        servers = Smtpload(smtpload_binary, tmp_path, networks.before("s"))
        clients = Smtpload(smtpload_binary, tmp_path, networks.before("c"))
        with servers.sink("sink", "--hash", listen=(f"{SERVER}:{PORT}",)) as sink:
            with kernel_rig(networks, tmp_path, config) as rig:
                source = clients.source("senders", (LISTENER, PORT), *load)
                with source as senders:
                    until(lambda: rig.flows() == _SENDERS, "all to be flows")
                    rig.balancer.process.kill()
                    # The pace: for so long nobody is there.
                    time.sleep(_NOBODY)
                    with kernel_rig(networks, tmp_path, config) as heir:
                        seen = partial(heir.balancer.metric, "mailweir_kernel_path_adopted_total")
                        # It answers while it still goes through them.
                        until(lambda: seen() == _SENDERS, "all to be adopted")
                        sent = senders.sent(limit=LIMIT + 60)
                        adopted = seen()
                        until(lambda: heir.balancer.status()["sessions"] == 0, "all to end")
                        until(lambda: len(heir.balancer.session_log()) == _SENDERS, "the log")
                        log = heir.balancer.session_log()
            report = sink.report()
    counted(
        f"{_SENDERS} sessions of 100 messages, nobody there for {_NOBODY} s: {sent.ok} ok,"
        f" {sent.failed} failed, {adopted:.0f} adopted"
    )
    assert (sent.ok, sent.failed, adopted) == (_SENDERS, 0, _SENDERS)
    ids = report["message_ids"]
    assert (ids["distinct"], ids["duplicates"]) == (sent.acknowledged, {})
    assert {line["end_reason"] for line in log} == {"client_quit"}
    received = sum(line["received_bytes"] for line in log)
    assert received > sent.acknowledged * 1024


def test_what_a_process_left_in_another_network(tmp_path: Path) -> None:
    """Attachments that are found there are to interfaces of the same names, but others."""
    config = rig_configuration(tmp_path)
    with ExitStack() as exits:
        first = exits.enter_context(row())
        exits.enter_context(serving_there(first, polite))
        with kernel_rig(first, tmp_path, config) as rig:
            rig.balancer.process.kill()
        second = exits.enter_context(row("other"))
        exits.enter_context(serving_there(second, polite))
        with kernel_rig(second, tmp_path, config) as rig:
            with rig.client() as client:
                client.expect("220")
                client.expect("250", "EHLO client.test")
                until(lambda: rig.flows() == 1, "the session to be a flow")
                client.expect("250", "NOOP")
                client.expect("221", "QUIT")
            assert rig.record()["path"] == "kernel"


def test_what_a_process_left_can_be_removed(tmp_path: Path) -> None:
    config = rig_configuration(tmp_path)
    with row() as networks, serving_there(networks, polite):
        with kernel_rig(networks, tmp_path, config) as rig:
            client = rig.client()
            client.expect("220")
            client.expect("250", "EHLO client.test")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            file = rig.balancer.file
            refused = run([*COMMAND, "kernel-path", "flush", "-c", file])
            assert refused.returncode == 1
            assert "mailweir runs already" in refused.stderr
            rig.balancer.process.kill()
        for command, answer in (
            ("status", "1 session in the kernel, 0 other places taken"),
            ("flush", "removed, with 1 session"),
            ("status", "nothing is in the kernel"),
        ):
            done = run([*COMMAND, "kernel-path", command, "-c", file])
            assert (done.returncode, done.stdout.strip()) == (0, answer), done.stderr
        with client, pytest.raises(ConnectionResetError):
            client.expect("250", "NOOP")
