"""`docs/first-steps.md` is true: each command of the page is run in turn, and says what it shows.

The servers of the page are really at its addresses, in a network of the test's own, and mailweir
has a `/run` and a `/var/lib` of its own, so that nothing on the page has to be another here.
"""

import re
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.mailweir import on_path
from harness.namespaces import Row, row
from harness.needs import private_mounts
from harness.process import run
from harness.scripted import Stream, serving
from harness.waiting import LIMIT

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs/first-steps.md"
_SERVERS = {"a": "10.0.0.1", "b": "10.0.0.2"}
_BALANCER = "10.0.0.254"
_OWN_FOLDERS = "mount -t tmpfs ours /run && mount -t tmpfs ours /var/lib"
_END = "-- the end of what it said --"
# What is another in each run or on each machine, and what both sides have in its place.
_NEUTRAL = (
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    (r"\b\d+(?:\.\d+)? (?:ms|s)\b|\b(?:\d+m )?\d+s\b", "SECONDS"),
    (r"\bpid \d+", "PID"),
    (r"\bmailweir \d+\.\d+\.\d+\w*", "VERSION"),
    (r"\b\d+ workers", "WORKERS"),
    (r"\b\d+ at most", "MOST"),
    (r"\broom for \d+ \([^)]*\)", "ROOM"),
    (r"/\S+/mailweir\.yaml", "FILE"),
    # It is there or isn't, by the kernel and by what mailweir may do.
    (r"(?m)^(?:no )?kernel path.*$", "KERNEL PATH"),
    # Columns are as wide as what stands in them.
    (r" {2,}", "  "),
)

pytestmark = pytest.mark.needs("iproute2")


@dataclass
class Step:
    """A command of the page, and what it says there."""

    command: str
    said: str = ""


class Terminal:
    """A shell that says the same to a pipe as to a person, prompts apart."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, command: str) -> str:
        """What a command says, errors in their place."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho '{_END}'\n")
        self._process.stdin.flush()
        said: list[str] = []
        while (line := self._process.stdout.readline()) != f"{_END}\n":
            assert line, f"the shell ended: {said}"
            said.append(line)
        return "".join(said)

    def end(self) -> None:
        """What it has started ends before it."""
        with suppress(subprocess.TimeoutExpired):
            self._process.communicate("kill %1; wait\n", LIMIT)
        self._process.kill()


def test_every_step(tmp_path: Path) -> None:
    steps = _steps()
    assert steps[0].command.startswith("cat >mailweir.yaml")
    with _farm() as networks, _terminal(networks, tmp_path) as terminal:
        for step in steps:
            said = terminal.run(step.command)
            assert _neutral(said) == _neutral(step.said), step.command
            if step.command.endswith("&"):
                # Whoever reads the page takes longer for the next line than mailweir to be ready.
                terminal.run("until mailweir healthcheck; do sleep 0.1; done")


def test_it_is_installed_by_a_target_that_is_there() -> None:
    # Whoever runs this has been through it; doing it again would take minutes.
    (command,) = re.findall(r"(?m)^make .*$", _PAGE.read_text())
    done = run([*command.split(), "--dry-run", "--directory", _ROOT])
    assert done.returncode == 0, done.stderr


def _steps() -> list[Step]:
    """What stands in the page's `console` blocks; a command goes on behind `> `."""
    steps: list[Step] = []
    for block in re.findall(r"(?ms)^```console\n(.*?)^```$", _PAGE.read_text()):
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append(Step(line.removeprefix("$ ")))
            elif line.startswith("> ") and not steps[-1].said:
                steps[-1].command += f"\n{line.removeprefix('> ')}"
            else:
                steps[-1].said += f"{line}\n"
    return steps


def _neutral(text: str) -> str:
    for pattern, stands_for in _NEUTRAL:
        text = re.sub(pattern, stands_for, text)
    return text


@contextmanager
def _farm() -> Iterator[Row]:
    """The servers at their addresses, and a way to them from network `l`."""
    with row() as networks, ExitStack() as exits:
        networks.run("l", "ip", "address", "add", f"{_BALANCER}/24", "dev", "servers")
        for name, address in _SERVERS.items():
            networks.run("s", "ip", "address", "add", f"{address}/24", "dev", "balancer")
            exits.enter_context(_server(networks, name, address))
        yield networks


def _server(networks: Row, name: str, address: str) -> AbstractContextManager[str]:
    def greet(stream: Stream) -> None:
        stream.send(f"220 {name}.example ESMTP\r\n".encode())
        for line in iter(stream.line, b""):
            stream.send(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 ok\r\n")

    return serving(greet, (address, 25), lambda make: networks.inside("s", make).result())


@contextmanager
def _terminal(networks: Row, directory: Path) -> Iterator[Terminal]:
    """In network `l`, with folders of mailweir's that nobody else sees."""
    environment = on_path(directory)
    environment.pop("MAILWEIR_SOCKET", None)
    folder = directory / "folder"
    folder.mkdir()
    with subprocess.Popen(
        [*networks.before("l"), *private_mounts(), "bash", "--norc"],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        terminal = Terminal(process)
        try:
            assert terminal.run(_OWN_FOLDERS) == ""
            yield terminal
        finally:
            terminal.end()
