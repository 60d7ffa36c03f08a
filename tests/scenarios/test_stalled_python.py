"""The control plane stands still for seconds, in one call that lets no line of Python run: sessions
begin, go on and end as before.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mailweir
from harness.clients.smtpload import Sent, Smtpload
from harness.mailweir.kernel_rig import PORT, kernel_rig, rig_configuration
from harness.networks.row import LISTENER, SERVER, row
from harness.scale import count
from scenarios import stalling

_STALL = count(6, 14)  # seconds
_SECONDS = count(3, 10)  # of load, within it
_RATE = count(200, 400)  # new sessions each second
# Of what is imported by a program of its own.
_PATHS = (Path(stalling.__file__).parents[1], Path(mailweir.__path__[0]).parent)

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


@pytest.mark.parametrize("forwarding", ["relay", "kernel"])
def test_sessions_dont_notice(
    tmp_path: Path, smtpload_binary: Path, forwarding: str, counted: Callable[[str], None]
) -> None:
    path = f"PYTHONPATH={os.pathsep.join(map(str, _PATHS))}"
    before = ["env", path, sys.executable, "-m", stalling.__name__, str(_STALL)]
    config = rig_configuration(tmp_path, forwarding=forwarding)
    with row() as networks:
        servers = Smtpload(smtpload_binary, tmp_path, networks.before("s"))
        clients = Smtpload(smtpload_binary, tmp_path, networks.before("c"))

        def load(name: str) -> Sent:
            options = (f"--rate={_RATE}", f"--duration={_SECONDS}s", "--messages=5")
            with clients.source(name, (LISTENER, PORT), "--concurrency=500", *options) as source:
                return source.sent()

        with (
            servers.sink("servers", listen=(f"{SERVER}:{PORT}",)),
            kernel_rig(networks, tmp_path, config, before) as rig,
        ):
            process = rig.balancer.process
            load("first")
            moving = load("moving")
            process.send(signal.SIGRTMIN)
            process.until(lambda: process.out.count("\n") == 1, "the stall to begin")
            stalled = load("stalled")
            assert process.out.count("\n") == 1, "the stall was to be longer than the load"
            process.until(lambda: process.out.count("\n") == 2, "its end", limit=2 * _STALL)
            began, ended = map(float, process.out.split())
            assert rig.balancer.command("reload").returncode == 0
    assert (moving.failed, stalled.failed) == (0, 0), (moving.failures, stalled.failures)
    assert ended - began >= _STALL
    counted(f"{forwarding}, Python moves: {_said(moving)}")
    counted(f"{forwarding}, it stands still for {ended - began:.1f} s: {_said(stalled)}")


def _said(sent: Sent) -> str:
    return (
        f"{sent.ok} sessions; p99 of a session {sent.session_p99_ms:.1f} ms,"
        f" of a command {sent.command_p99_ms:.2f} ms"
    )
