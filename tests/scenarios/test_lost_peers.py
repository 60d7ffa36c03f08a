"""Ends that are lost without a word, or reset: the session ends at the other one too, in time.

In a network of the test's own, where nothing else is cut off.
"""

import ctypes
import fcntl
import os
import socket
import sys
import termios
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from harness.machine.proc import descriptors
from harness.mailweir.run import Mailweir, configuration
from harness.needs import program
from harness.networks.own import own_network
from harness.process import run
from harness.servers.ends import Acceptor, Session, accepting
from harness.waiting import until
from scenarios.conftest import Start

pytestmark = pytest.mark.needs("iproute2", "nftables")

_USER_TIMEOUT = 12 * 60 * 1000  # milliseconds
_KEEPALIVE = 60  # seconds
# The same on every architecture that we know (asm-generic/unistd.h).
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438
_TCP_USER_TIMEOUT = 18


def test_the_kernel_watches_both_legs(tmp_path: Path, start: Start) -> None:
    """A dead peer is found by keepalive where nothing is under way, by TCP_USER_TIMEOUT else."""
    with _rig(tmp_path, start) as (balancer, _):
        _wait_for_the_watch(balancer)
        for leg in _connections(balancer):
            with leg:
                assert leg.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert leg.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == _KEEPALIVE


@pytest.mark.parametrize("lost", ["client", "server"])
def test_a_cable_is_cut(tmp_path: Path, start: Start, lost: str) -> None:
    """Data is under way and nothing comes back. The 12 minutes are made one second, since a test
    can't wait for them: from outside, at the balancer's own socket.
    """
    with _rig(tmp_path, start) as (balancer, session):
        before = len(descriptors(balancer.pid)) - 2
        ends = {"client": session.client, "server": session.server}
        other = ends["server" if lost == "client" else "client"]
        port = ends[lost].socket.getsockname()[1]
        _wait_for_the_watch(balancer)
        for leg in _connections(balancer):
            with leg:
                leg.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, 1000)
        _cut(port)
        other.send(b"250 on its way\r\n" if lost == "client" else b"NOOP\r\n")
        until(lambda: balancer.status()["sessions"] == 0, "the session to end")
        with pytest.raises(ConnectionResetError):
            other.rest()
        until(lambda: len(descriptors(balancer.pid)) <= before, "both descriptors to be closed")
        until(lambda: balancer.session_log() != [], "the session in the log")
        assert balancer.session_log()[0]["end_reason"] == f"{lost}_lost"


@pytest.mark.parametrize("lost", ["client", "server"])
def test_a_leg_is_killed(tmp_path: Path, start: Start, lost: str) -> None:
    """`ss -K` ends the balancer's own socket, as an administrator does; both ends get a reset."""
    with _rig(tmp_path, start) as (balancer, session):
        before = len(descriptors(balancer.pid)) - 2
        ends = {"client": session.client, "server": session.server}
        port = ends[lost].socket.getsockname()[1]
        done = run([program("ss"), "-K", "-tn", "dport", "=", str(port)])
        assert done.returncode == 0, done.stderr
        for end in ends.values():
            with pytest.raises(ConnectionResetError):
                end.rest()
        until(lambda: len(descriptors(balancer.pid)) <= before, "both descriptors to be closed")
        until(lambda: balancer.session_log() != [], "the session in the log")
        assert balancer.session_log()[0]["end_reason"] == f"{lost}_lost"


@contextmanager
def _rig(directory: Path, start: Start) -> Iterator[tuple[Mailweir, Session]]:
    """A session between two ends of the test, idle after its greeting and EHLO."""
    with ExitStack() as exits:
        exits.enter_context(own_network())
        server: Acceptor = exits.enter_context(accepting())
        config = configuration(
            directory, {"a": server.address}, check={"kind": "tcp", "every": "1h"}
        )
        balancer = start(config)
        server.forget_check()
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        session = Session(balancer.address())
        exits.callback(session.close)
        session.taken_by(server)
        # Bytes that may still be on their way would be let arrive, before an end of stream.
        until(lambda: _unacknowledged(balancer) == 0, "all to be acknowledged")
        yield balancer, session


def _connections(balancer: Mailweir) -> Iterator[socket.socket]:
    """Its established TCP connections, each as a socket of this process too."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = libc.syscall(_PIDFD_OPEN, balancer.pid, 0)
    assert process >= 0, os.strerror(ctypes.get_errno())
    try:
        for fd, what in descriptors(balancer.pid).items():
            if not what.startswith("socket:"):
                continue
            own = libc.syscall(_PIDFD_GETFD, process, fd, 0)
            assert own >= 0, os.strerror(ctypes.get_errno())
            shared = socket.socket(fileno=own)
            if _is_connected(shared):
                yield shared
            else:
                shared.close()
    finally:
        os.close(process)


def _wait_for_the_watch(balancer: Mailweir) -> None:
    """Until both legs have their time-out: once the session has lasted for some seconds."""

    def are_watched() -> bool:
        limits = []
        for leg in _connections(balancer):
            with leg:
                limits.append(leg.getsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT))
        return limits == [_USER_TIMEOUT] * 2

    until(are_watched, "both legs to be watched over")


def _unacknowledged(balancer: Mailweir) -> int:
    """Bytes that it has sent and that nobody has acknowledged."""
    left = 0
    for leg in _connections(balancer):
        with leg:
            answer = fcntl.ioctl(leg, termios.TIOCOUTQ, b"\0" * 4)
            left += int.from_bytes(answer, sys.byteorder)
    return left


def _is_connected(shared: socket.socket) -> bool:
    if shared.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    with suppress(OSError):
        shared.getpeername()
        return True
    return False


def _cut(port: int) -> None:
    """Nothing comes from or reaches this port any more, silently."""
    rules = f"""
    table inet cut {{
        chain in {{
            type filter hook input priority 0;
            tcp sport {port} drop
            tcp dport {port} drop
        }}
    }}
    """
    done = run([program("nft"), rules])
    assert done.returncode == 0, done.stderr
