"""Our load generator: servers that count what they take, clients that count what failed."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.needs import missing
from harness.networks.ports import SERVER_HOST
from harness.process import Running, running
from harness.waiting import LIMIT

_ROOT = Path(__file__).parents[3]
FREE_PORT = f"{SERVER_HOST}:0"
_BUILD_LIMIT = 1200.0  # seconds; from nothing, on a machine with one core


def build() -> Path:
    """The release build of `smtpload`, made where it isn't there yet."""
    cargo = shutil.which("cargo")
    if cargo is None:
        missing("needs cargo, to build smtpload")
    command = [cargo, "build", "--quiet", "--release", "--package", "mailweir-testkit", "--bins"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=_BUILD_LIMIT)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stderr}"
    return Path(os.environ.get("CARGO_TARGET_DIR", _ROOT / "target")) / "release" / "smtpload"


class Sink:
    """Servers that take every message, one per listening address."""

    def __init__(self, process: Running) -> None:
        self.process = process
        line = process.until(lambda: process.out.partition("\n")[0], "a sink to listen")
        self.addresses: list[str] = json.loads(line)["listening"]

    def report(self) -> dict[str, Any]:
        """End it; what it has counted."""
        self.process.send(signal.SIGTERM)
        assert self.process.wait() == 0
        report: dict[str, Any] = json.loads(self.process.out.splitlines()[-1])
        return report


@dataclass(frozen=True)
class Sent:
    """What the clients saw. `failures` by stage of the session, then by kind."""

    ok: int
    failed: int
    failures: dict[str, dict[str, int]]
    acknowledged: int
    session_p99_ms: float
    command_p99_ms: float


class Source:
    """Clients that run until the bound in their options, or until they are stopped."""

    def __init__(self, process: Running) -> None:
        self._process = process

    @property
    def ended(self) -> bool:
        """Whether the bound has been reached."""
        return self._process.exit_code is not None

    def stop(self) -> None:
        """No session begins any more."""
        self._process.send(signal.SIGTERM)

    def sent(self, limit: float = LIMIT) -> Sent:
        """Wait for the end; what was counted."""
        code = self._process.wait(limit)
        assert code in (0, 1), f"smtpload source ended with {code}: {self._process.err}"
        report = json.loads(self._process.out)
        sessions, messages = report["sessions"], report["messages"]
        times = report["times_us"]
        return Sent(
            sessions["ok"],
            sessions["failed"],
            report["failures"],
            messages["acknowledged"],
            times["session"]["p99"] / 1000,
            times["round_trip"]["p99"] / 1000,
        )


class Smtpload:
    """The program, with its output files in one folder. Names must differ. `before` begins its
    command.
    """

    def __init__(self, binary: Path, directory: Path, before: Sequence[str] = ()) -> None:
        self._before = before
        self._binary = binary
        self._directory = directory

    @contextmanager
    def sink(self, name: str, *options: str, listen: tuple[str, ...] = ()) -> Iterator[Sink]:
        """Servers; on one free port unless `listen` names addresses."""
        where = [f"--listen={address}" for address in listen or (FREE_PORT,)]
        with self._running("sink", name, *where, f"--name={name}.test", *options) as process:
            yield Sink(process)

    @contextmanager
    def source(self, name: str, address: tuple[str, int], *options: str) -> Iterator[Source]:
        """Clients in the background."""
        to = "--connect={}:{}".format(*address)
        with self._running("source", name, to, *options) as process:
            yield Source(process)

    def _running(self, mode: str, name: str, *options: str) -> AbstractContextManager[Running]:
        argv: list[str | Path] = [*self._before, self._binary, "--json", mode, *options]
        return running(argv, self._directory, name)
