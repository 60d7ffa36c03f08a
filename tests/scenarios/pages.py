"""Pages of `docs` that are walked through: each command is run in turn, and says what it shows.

The servers of a page are really at its addresses, in a network of the test's own, and mailweir
has a `/run` and a `/var/lib` of its own, so that nothing on the page has to be another here.
"""

import re
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.mailweir.run import on_path
from harness.needs import private_mounts
from harness.networks.row import Row, row
from harness.servers.scripted import Stream, serving
from harness.waiting import LIMIT

_DOCS = Path(__file__).parents[2] / "docs"
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


def steps(page: str) -> list[Step]:
    """What stands in a page's `console` blocks; a command goes on behind `> `."""
    found: list[Step] = []
    for block in re.findall(r"(?ms)^```console\n(.*?)^```$", (_DOCS / page).read_text()):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line.removeprefix("$ ")))
            elif line.startswith("> ") and not found[-1].said:
                found[-1].command += f"\n{line.removeprefix('> ')}"
            else:
                found[-1].said += f"{line}\n"
    return found


def neutral(text: str) -> str:
    """Without what is another in each run."""
    for pattern, stands_for in _NEUTRAL:
        text = re.sub(pattern, stands_for, text)
    return text


@contextmanager
def farm() -> Iterator[Row]:
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
def terminal(networks: Row, directory: Path) -> Iterator[Terminal]:
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
        shell = Terminal(process)
        try:
            assert shell.run(_OWN_FOLDERS) == ""
            yield shell
        finally:
            shell.end()


def walk(page: str, directory: Path) -> None:
    """Run every command of a page, and compare what it says with what stands there."""
    with farm() as networks, terminal(networks, directory) as shell:
        for step in steps(page):
            said = shell.run(step.command)
            assert neutral(said) == neutral(step.said), step.command
            if step.command.endswith("&"):
                # Whoever reads the page takes longer for the next line than mailweir to be ready.
                shell.run("until mailweir healthcheck; do sleep 0.1; done")
