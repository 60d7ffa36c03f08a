"""Sessions on the kernel path that one side ends by a reset behind its last words, at once: nobody
has acknowledged these, and nobody ever will.
"""

import socket
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.kernel_rig import GREETING, polite, rig_before
from harness.scale import count
from harness.servers.scripted import Stream
from harness.waiting import LIMIT, until

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")

Counted = Callable[[str], None]

_SESSIONS = count(20, 1000)
# Whose resets are more than a socket holds that has to wait for its link.
_AT_ONCE = count(400, 2000)
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER


def _resets_after_quit(client: Client) -> None:
    """As bots do it."""
    client.expect("220")
    client.expect("250", "EHLO client.test")
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    client.send(b"QUIT\r\n")


def _is_dropped(client: Client) -> None:
    client.expect("220")
    with suppress(ConnectionResetError):
        client.expect("554", "EHLO client.test")
        client.line()


def _drops(stream: Stream) -> None:
    stream.send(GREETING)
    if stream.line():
        stream.send(b"554 5.7.1 go away\r\n")
        stream.reset()


@pytest.mark.parametrize(
    ("serves", "talks", "reason"),
    [
        pytest.param(polite, _resets_after_quit, "client_quit", id="client"),
        pytest.param(_drops, _is_dropped, "server_lost", id="server"),
    ],
)
def test_a_reset_behind_the_last_words(
    tmp_path: Path,
    counted: Counted,
    serves: Callable[[Stream], None],
    talks: Callable[[Client], None],
    reason: str,
) -> None:
    """The flow is over at once, and free what it had."""
    with rig_before(tmp_path, serves) as rig:
        for _ in range(_SESSIONS):
            with rig.client() as client:
                talks(client)
        begun = time.monotonic()
        until(lambda: rig.flows() == 0, "no flow to be left")
        took = time.monotonic() - begun
        until(lambda: len(rig.balancer.session_log()) == _SESSIONS, "all in the log")
        log = rig.balancer.session_log()
        assert rig.balancer.servers()["a"]["active"] == 0
        assert rig.balancer.status()["sessions"] == 0
    counted(f"{_SESSIONS} sessions, no flow {took:.2f} s after the last")
    assert {line["path"] for line in log} == {"kernel"}
    assert {line["end_reason"] for line in log} == {reason}


def test_many_at_once_by_a_link_that_is_busy(tmp_path: Path, counted: Counted) -> None:
    """We end them all: each client hears of it, also where that has to wait for the link."""
    with rig_before(tmp_path, polite) as rig, ExitStack() as exits:
        clients = [exits.enter_context(rig.client()) for _ in range(_AT_ONCE)]
        for client in clients:
            client.expect("220")
        until(lambda: rig.flows() == _AT_ONCE, "all to be flows")
        slow = ("rate", "200kbit", "burst", "2kb", "limit", "1mb")
        rig.networks.run("l", "tc", "qdisc", "add", "dev", "clients", "root", "tbf", *slow)
        assert rig.balancer.command("deny", "10.1.0.0/24", "--end").returncode == 0
        began, late = time.monotonic(), 0
        for client in clients:
            client.socket.settimeout(max(began + LIMIT / 2 - time.monotonic(), 0.1))
            late += not _is_reset(client)
        counted(f"{_AT_ONCE} ended at once: {late} never heard of it")
        assert late == 0
        until(lambda: len(rig.balancer.session_log()) == _AT_ONCE, "all in the log")
        assert {line["end_reason"] for line in rig.balancer.session_log()} == {"killed"}


def _is_reset(client: Client) -> bool:
    try:
        client.line()
    except ConnectionResetError:
        return True
    except TimeoutError:
        pass
    return False
