"""A stand-in for systemd hears of start, reload, life and end."""

import signal
from pathlib import Path

from harness.clients.smtpload import Smtpload
from harness.mailweir.run import configuration, mailweir
from harness.programs.supervisor import supervisor


def test_what_systemd_hears(tmp_path: Path, smtpload: Smtpload) -> None:
    with smtpload.sink("a") as sink, supervisor(tmp_path) as systemd:
        config = configuration(tmp_path, {"a": sink.addresses[0]})
        with mailweir(tmp_path, config, systemd.before()) as balancer:
            systemd.until(lambda said: "READY=1" in said)
            systemd.until(lambda said: "WATCHDOG=1" in said)
            balancer.reload_by_signal()
            systemd.until(lambda said: "RELOADING=1" in said)
            assert "STATUS=nothing changed" in systemd.until(lambda said: "READY=1" in said)
            balancer.process.send(signal.SIGTERM)
            systemd.until(lambda said: "STOPPING=1" in said)
            assert balancer.process.wait() == 0
