"""Pages that are walked through: each command is run in turn, and says what it shows.

The servers of a page are really at its addresses, in a network of the test's own, and mailweir
has a `/run` and a `/var/lib` of its own, so that nothing on the page has to be another here.
"""

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.mailweir.run import on_path
from harness.needs import private_mounts
from harness.networks.row import Row, row
from harness.servers.scripted import Stream, serving_in
from harness.waiting import LIMIT

ROOT = Path(__file__).parents[2]
_SERVERS = {"a": "10.0.0.1", "b": "10.0.0.2"}
_BALANCER = "10.0.0.254"
_OWN_FOLDERS = "mount -t tmpfs ours /run && mount -t tmpfs ours /var/lib"
UNTIL_READY = "until mailweir healthcheck; do sleep 0.1; done"
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
    # So is a BPF file system.
    (r"(?m)^sessions in the kernel end with the process: .*\n", ""),
    (r", (?:through the kernel if it can|by the relay \([^)]*\))", ", BY A PATH"),
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

    def run(self, command: str, on_line: Callable[[str], None] = lambda line: None) -> str:
        """What a command says, errors in their place; `on_line` hears of each line at once."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho '{_END}'\n")
        self._process.stdin.flush()
        said: list[str] = []
        while (line := self._process.stdout.readline()) != f"{_END}\n":
            assert line, f"the shell ended: {said}"
            said.append(line)
            on_line(line)
        return "".join(said)

    def end(self) -> None:
        """What it has started ends before it."""
        with suppress(subprocess.TimeoutExpired):
            self._process.communicate("kill %1; wait\n", LIMIT)
        self._process.kill()


def steps(page: str) -> list[Step]:
    """What stands in a page's `console` blocks; a command goes on behind `> `."""
    found: list[Step] = []
    for block in re.findall(r"(?ms)^```console\n(.*?)^```$", (ROOT / page).read_text()):
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


class Farm:
    """Mail servers in network `s`, at their addresses; each may be stopped, and begin again."""

    def __init__(self, networks: Row, servers: Mapping[str, str], *, proxy: bool) -> None:
        """`servers` are addresses by name; with `proxy` they expect a PROXY header, version 2."""
        self.networks = networks
        self._servers = servers
        self._proxy = proxy
        self._running: dict[str, ExitStack] = {}

    def start(self, name: str) -> None:
        """Have a server take sessions."""

        def handle(stream: Stream) -> None:
            if self._proxy:
                stream.exactly(int.from_bytes(stream.exactly(16)[14:]))
            _serve(stream, name)

        running = self._running[name] = ExitStack()
        address = (self._servers[name], 25)
        running.enter_context(serving_in(self.networks, "s", address, handle))

    def stop(self, name: str) -> None:
        """Have it take no more."""
        self._running.pop(name).close()

    def end(self) -> None:
        """All of them."""
        for name in [*self._running]:
            self.stop(name)


def _serve(stream: Stream, name: str) -> None:
    stream.send(f"220 {name}.example ESMTP\r\n".encode())
    for line in iter(stream.line, b""):
        if line.startswith(b"QUIT"):
            stream.send(b"221 bye\r\n")
        elif line.startswith(b"DATA"):
            stream.send(b"354 go on\r\n")
            while stream.line() not in (b".\r\n", b""):
                pass
            stream.send(b"250 taken\r\n")
        else:
            stream.send(b"250 ok\r\n")


@contextmanager
def farm(servers: Mapping[str, str] = _SERVERS, *, proxy: bool = False) -> Iterator[Farm]:
    """The servers at their addresses, and a way to them from network `l`."""
    with row() as networks:
        networks.run("l", "ip", "address", "add", f"{_BALANCER}/24", "dev", "servers")
        made = Farm(networks, servers, proxy=proxy)
        try:
            for name, address in servers.items():
                networks.run("s", "ip", "address", "add", f"{address}/24", "dev", "balancer")
                made.start(name)
            yield made
        finally:
            made.end()


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
    with farm() as servers, terminal(servers.networks, directory) as shell:
        for step in steps(page):
            said = shell.run(step.command)
            assert neutral(said) == neutral(step.said), step.command
            if step.command.endswith("&"):
                # Whoever reads the page takes longer for the next line than mailweir to be ready.
                shell.run(UNTIL_READY)
