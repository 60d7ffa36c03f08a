"""A stand-in for systemd hears of start, reload, life and end."""

import signal
import socket
from collections.abc import Callable
from pathlib import Path

from harness.mailweir import configuration, mailweir
from harness.smtpload import Smtpload
from harness.waiting import LIMIT


def test_what_systemd_hears(tmp_path: Path, smtpload: Smtpload) -> None:
    path = tmp_path / "notify"
    with (
        smtpload.sink("a") as sink,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard,
    ):
        heard.bind(str(path))
        heard.settimeout(LIMIT)
        environment = ["env", f"NOTIFY_SOCKET={path}", "WATCHDOG_USEC=200000"]
        config = configuration(tmp_path, {"a": sink.addresses[0]})
        with mailweir(tmp_path, config, environment) as balancer:
            _until(heard, lambda said: "READY=1" in said)
            _until(heard, lambda said: "WATCHDOG=1" in said)
            balancer.reload_by_signal()
            _until(heard, lambda said: "RELOADING=1" in said)
            assert "STATUS=nothing changed" in _until(heard, lambda said: "READY=1" in said)
            balancer.process.send(signal.SIGTERM)
            _until(heard, lambda said: "STOPPING=1" in said)
            assert balancer.process.wait() == 0


def _until(heard: socket.socket, wanted: Callable[[list[str]], bool]) -> list[str]:
    """The lines of the first datagram that is wanted."""
    while True:
        said = heard.recv(4096).decode().splitlines()
        if wanted(said):
            return said
