"""Tab in bash, zsh and fish: commands, options, and the names of what runs."""

import os
import pty
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.run import Mailweir, configuration, on_path
from harness.process import run
from harness.servers.takers import Takers
from harness.waiting import until
from scenarios.conftest import Start

# What bash does where Tab is pressed behind the last of these words.
_TAB_IN_BASH = """
source <(mailweir completion bash)
COMP_WORDS=(mailweir "$@") COMP_CWORD=$# COMPREPLY=()
_mailweir_completion mailweir
printf '%s\n' "${COMPREPLY[@]}"
"""
_ZSH = "autoload -Uz compinit; compinit -u -D; source <(mailweir completion zsh); echo rea''dy\n"


@pytest.fixture
def balancer(tmp_path: Path, start: Start) -> Iterator[Mailweir]:
    """With two servers and one listener."""
    takers = Takers(0)
    with takers.server("a") as a, takers.server("b") as b:
        yield start(configuration(tmp_path, {"a": a, "b": b}))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """As the operator's who presses Tab."""
    return on_path(tmp_path) | {"MAILWEIR_SOCKET": str(tmp_path / "admin.sock"), "TERM": "dumb"}


def test_names_of_what_runs_in_bash(balancer: Mailweir, environment: dict[str, str]) -> None:
    assert _in_bash(environment, "drain", "") == ["farm/a", "farm/b"]
    assert _in_bash(environment, "weight", "farm/b") == ["farm/b"]
    assert _in_bash(environment, "sessions", "--server", "farm") == ["farm/a", "farm/b"]
    assert _in_bash(environment, "pause", "") == ["mx"]
    with Client(balancer.address()) as client:
        client.expect("220")
        (session,) = _in_bash(environment, "kill", "")
        assert balancer.command("kill", session).returncode == 0


def test_commands_and_options_in_bash(environment: dict[str, str]) -> None:
    assert _in_bash(environment, "heal") == ["healthcheck"]
    assert _in_bash(environment, "kernel-path", "f") == ["flush"]
    assert _in_bash(environment, "drain", "--wa") == ["--wait"]


def test_nobody_answers(environment: dict[str, str]) -> None:
    assert _in_bash(environment, "drain", "") == []
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(environment["MAILWEIR_SOCKET"])
        silent.listen()
        # Were it waited for as other commands wait, this would take longer than `run` allows.
        assert _in_bash(environment, "drain", "") == []


@pytest.mark.needs("fish")
def test_names_in_fish(balancer: Mailweir, environment: dict[str, str]) -> None:
    script = "mailweir completion fish | source; complete --do-complete 'mailweir drain f'"
    shown = run(["fish", "--no-config", "-c", script], env=environment)
    assert (shown.stdout, shown.stderr) == ("farm/a\tup\nfarm/b\tup\n", "")


@pytest.mark.needs("zsh")
def test_names_in_zsh(balancer: Mailweir, environment: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    said = b""

    def has_said(text: bytes) -> bool:
        nonlocal said
        try:
            said += os.read(ours, 65536)
        except BlockingIOError:
            pass
        return text in said

    with subprocess.Popen(
        ["zsh", "-f", "-i"],
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as zsh:
        try:
            os.write(ours, _ZSH.encode())
            until(lambda: has_said(b"\nready"), "zsh to have read the script")
            # Completes the pool, then the server, and runs it: `fb` is no server.
            os.write(ours, b"mailweir drain f\tb\t\n")
            until(lambda: has_said(b"farm/b drains, 0 sessions"), "zsh to run what it completed")
        finally:
            zsh.kill()
            os.close(ours)
            os.close(theirs)


def _in_bash(environment: dict[str, str], *words: str) -> list[str]:
    command = ["bash", "--norc", "-c", _TAB_IN_BASH, "bash", *words]
    shown = run(command, env=environment)
    assert (shown.returncode, shown.stderr) == (0, "")
    return shown.stdout.split()
