"""What commands say and return where no process runs, the file is bad, or it isn't ready."""

import json
from pathlib import Path

import pytest

from harness.mailweir.run import COMMAND, configuration, run_to_end, write
from harness.networks.ports import refusing
from harness.process import run
from harness.servers.takers import Takers
from harness.waiting import until
from scenarios.conftest import Start

_BAD = """\
workers: many
listeners:
  mx:
    bind: ["127.0.0.1"]
    pool: farm
    protocol: smpt
pools:
  farm:
    servers:
      a: 10.0.0.1:25
      a: 10.0.0.2:25
      b: {address: 10.0.0.3:25, wieght: 50}
"""
_PROBLEMS = (
    "1:10: workers: must be auto or a number from 1 to 1024, not 'many'",
    "4:12: listeners.mx.bind.0: 127.0.0.1 needs a port,"
    " for example 10.0.0.1:25 or [2001:db8::1]:25",
    "6:15: listeners.mx.protocol: must be one of smtp, smtps, tcp; not 'smpt';"
    " did you mean `smtp`?",
    "11:7: `a` is written twice, first at line 10",
    "12:33: pools.farm.servers.b.wieght: unknown key; did you mean `weight`?",
)


@pytest.mark.parametrize("command", [["status"], ["healthcheck"], ["reload"], ["status", "--json"]])
def test_nothing_runs(tmp_path: Path, command: list[str]) -> None:
    socket = tmp_path / "admin.sock"
    asked = run([*COMMAND, *command, "--socket", socket])
    told = (
        f"nobody answers at {socket}: mailweir isn't running, or has another `admin.socket`"
        " (give it with --socket or MAILWEIR_SOCKET)"
    )
    assert (asked.returncode, asked.stderr) == (3, f"mailweir: {told}\n")
    if "--json" in command:
        assert json.loads(asked.stdout) == {"error": told}
    else:
        assert asked.stdout == ""


def test_a_bad_file_is_shown_with_all_its_problems(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(_BAD)
    checked = run([*COMMAND, "check", "-c", file])
    assert (checked.returncode, checked.stdout) == (78, "")
    assert checked.stderr == "".join(f"{file}:{line}\n" for line in _PROBLEMS)
    started = run_to_end(file)
    assert (started.returncode, started.stdout) == (78, "")
    assert started.stderr == checked.stderr


def test_a_good_file(tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    write(file, configuration(tmp_path, {"a": "127.0.0.1:25"}))
    checked = run([*COMMAND, "check", "-c", file])
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == f"{file}: ok, 1 listener, 1 pool, 1 server\n"
    assert not (tmp_path / "state").exists()


def test_health_is_an_exit_code(tmp_path: Path, start: Start) -> None:
    with refusing() as nobody:
        balancer = start(configuration(tmp_path, {"a": nobody}))
        asked = balancer.command("healthcheck")
        assert (asked.returncode, asked.stdout) == (4, "pool farm: no server is up\n")
        with Takers(0).server("a") as taker:
            balancer.write(configuration(tmp_path, {"a": taker}))
            assert balancer.command("reload").returncode == 0
            until(lambda: balancer.command("healthcheck").returncode == 0, "the new server")
            asked = balancer.command("healthcheck")
            assert (asked.stdout, asked.stderr) == ("ready\n", "")
        balancer.command("pause")
        asked = balancer.command("healthcheck", "--json")
        assert asked.returncode == 4
        assert not json.loads(asked.stdout)["ready"]
