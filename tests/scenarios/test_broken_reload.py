"""A reload that can't be: its reasons are shown where they stand, the old configuration serves."""

import socket
from pathlib import Path

from harness.clients.smtpload import Smtpload
from harness.mailweir.run import Mailweir, configuration
from harness.waiting import until
from scenarios.conftest import Start

# Line and column of each mistake are the point here, so the file is written out.
_BROKEN = """\
admin: {{socket: {directory}/admin.sock, http: "off"}}
state_dir: {directory}/state
listeners:
  mx:
    bind: ["127.0.0.1:0"]
    pool: fram
pools:
  farm:
    balance: fastest
    servers:
      a: {server}
"""
_MISTAKES = (
    "6:11: listeners.mx.pool: there is no pool `fram`; did you mean `farm`?",
    "9:14: pools.farm.balance: must be one of least_conn, round_robin, random_two, source_hash,"
    " maglev, least_load; not 'fastest'",
)


def test_a_broken_file_changes_nothing(tmp_path: Path, start: Start, smtpload: Smtpload) -> None:
    with smtpload.sink("server") as sink:
        good = configuration(tmp_path, {"a": sink.addresses[0]})
        balancer = start(good)
        assert _reloads(balancer) == (1, 0, 0)
        generation = balancer.status()["generation"]

        balancer.write(_BROKEN.format(directory=tmp_path, server=sink.addresses[0]))
        expected = [f"{balancer.file}:{mistake}" for mistake in _MISTAKES]
        balancer.reload_by_signal()
        until(lambda: _reloads(balancer) == (0, 1, 1), "the reload to be refused")
        for line in expected:
            assert f'level=error event=configuration problem="{line}"' in balancer.process.err
        _serves(balancer, smtpload, "after-signal")

        asked = balancer.command("reload")
        refusal = f"reload refused, the old configuration stays: {balancer.file} has 2 problem(s)"
        assert (asked.returncode, asked.stdout) == (78, "")
        assert asked.stderr.splitlines() == [*expected, refusal]
        assert _reloads(balancer) == (0, 2, 2)
        assert balancer.status()["generation"] == generation
        _serves(balancer, smtpload, "after-command")

        heavier = {"address": sink.addresses[0], "weight": 200}
        balancer.write(configuration(tmp_path, {"a": heavier}))
        asked = balancer.command("reload")
        assert (asked.returncode, asked.stderr) == (0, "")
        assert asked.stdout.startswith(f"reloaded, generation {generation + 1}: ")
        assert _reloads(balancer) == (1, 3, 2)
        _serves(balancer, smtpload, "after-mending")


def test_an_address_that_is_taken_changes_nothing(
    tmp_path: Path, start: Start, smtpload: Smtpload
) -> None:
    with smtpload.sink("server") as sink, socket.create_server(("127.0.0.1", 0)) as taken:
        good = configuration(tmp_path, {"a": sink.addresses[0]})
        balancer = start(good)
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        second = {"bind": [address], "pool": "farm"}
        balancer.write({**good, "listeners": {**good["listeners"], "second": second}})

        asked = balancer.command("reload")
        assert (asked.returncode, asked.stdout) == (1, "")
        assert "second" in asked.stderr
        assert address in asked.stderr
        assert "in use" in asked.stderr
        assert _reloads(balancer) == (0, 1, 1)
        _serves(balancer, smtpload, "after")


def _reloads(balancer: Mailweir) -> tuple[float, float, float]:
    """Whether the last one was taken; how many were tried; how many were refused."""
    return (
        balancer.metric("mailweir_config_last_reload_success"),
        balancer.metric("mailweir_config_reloads_total"),
        balancer.metric("mailweir_config_reload_failures_total"),
    )


def _serves(balancer: Mailweir, smtpload: Smtpload, name: str) -> None:
    """A mail goes through."""
    with smtpload.source(name, balancer.address(), "--sessions=1") as source:
        assert source.sent().acknowledged == 1
