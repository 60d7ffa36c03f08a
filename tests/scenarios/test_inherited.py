"""What a process is started with: closed streams, blocked signals, few descriptors. It starts all
the same, or says in a sentence why it doesn't.
"""

import os
import signal
import sys
from pathlib import Path

import pytest

from harness.mailweir.promptness import MOST, end
from harness.mailweir.run import COMMAND, configuration, mailweir, run_to_end, write
from harness.needs import program

# What a shell can't do: its children begin with signals blocked.
_BLOCKED = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGCHLD})
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed(tmp_path: Path, closed: str) -> None:
    config = configuration(tmp_path, {"a": "127.0.0.1:9"}, log={"sessions": "stderr"})
    with mailweir(tmp_path, config, ["sh", "-c", f'exec "$@" {closed}', "sh"]) as balancer:
        # What is meant for them goes nowhere, and not into a connection that got their number.
        for number in (0, 1, 2) if "<" in closed else (2,):
            assert os.readlink(f"/proc/{balancer.pid}/fd/{number}") == "/dev/null"
        assert balancer.command("status").returncode == 0
        assert end(balancer) < MOST


def test_signals_that_are_blocked(tmp_path: Path) -> None:
    config = configuration(tmp_path, {"a": "127.0.0.1:9"})
    with mailweir(tmp_path, config, [sys.executable, "-c", _BLOCKED]) as balancer:
        reloads = "mailweir_config_reloads_total"
        assert balancer.metric(reloads) == 0
        balancer.process.send(signal.SIGHUP)
        balancer.process.until(lambda: balancer.metric(reloads) == 1, "the reload")
        assert end(balancer) < MOST


@pytest.mark.parametrize("limit", [16, 24, 31, 32, 48, 63])
def test_too_few_descriptors_are_told_in_a_sentence(tmp_path: Path, limit: int) -> None:
    file = tmp_path / "mailweir.yaml"
    write(file, configuration(tmp_path, {"a": "127.0.0.1:9"}))
    ended = run_to_end(file, before=[program("prlimit"), f"--nofile={limit}"])
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"mailweir: the process may have {limit} descriptors (RLIMIT_NOFILE); it needs 64 at least,"
        " and two for each session: raise LimitNOFILE of its unit, or `ulimit -n` of who starts"
        " it\n"
    )


@pytest.mark.parametrize("limit", [64, 80, 128])
def test_with_few_descriptors_it_runs(tmp_path: Path, limit: int) -> None:
    config = configuration(tmp_path, {"a": "127.0.0.1:9"})
    before = [program("prlimit"), f"--nofile={limit}"]
    with mailweir(tmp_path, config, before) as balancer:
        assert balancer.command("status").returncode == 0
        assert "Traceback" not in balancer.process.err


def test_commands_have_no_need_of_streams(tmp_path: Path) -> None:
    asked = "exec {} status --socket {} <&- >&- 2>&-".format(" ".join(COMMAND), tmp_path / "none")
    assert os.waitstatus_to_exitcode(os.system(asked)) == 3  # noqa: S605 - our own words
