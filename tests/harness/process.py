"""Programs that run beside a test and end with it, by their process id and no other way."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.waiting import LIMIT, Value, until

# Of an output that a failed test shows.
_SHOWN = 8000


class Running:
    """A program that was started; output and errors go to files, so it never blocks on them."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path, name: str) -> None:
        self._process = process
        self._out = directory / f"{name}.out"
        self._err = directory / f"{name}.err"
        self.name = name
        self.directory = directory
        self.pid = process.pid

    @property
    def out(self) -> str:
        """What it has written to standard output so far."""
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        """What it has written to standard error so far."""
        return self._err.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative where a signal ended it."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self._process.send_signal(number)

    def wait(self, limit: float = LIMIT) -> int:
        """Its exit code once it has ended. Fails after `limit`."""
        try:
            return self._process.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} (pid {self.pid}) runs still after {limit:g} s:\n{self.err[-_SHOWN:]}"
            ) from None

    def until(self, condition: Callable[[], Value], what: str, *, limit: float = LIMIT) -> Value:
        """As `waiting.until`; fails at once where the program has ended."""

        def checked() -> Value:
            code = self.exit_code
            assert code is None, f"{self.name} ended with {code}:\n{self.err[-_SHOWN:]}"
            return condition()

        return until(checked, what, limit=limit)

    def kill(self) -> None:
        """End it as `kill -9` does; it is gone when this returns."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it, gently at first."""
        if self.exit_code is None:
            self._process.terminate()
            try:
                self._process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                self.kill()


@contextmanager
def running(argv: Sequence[str | Path], directory: Path, name: str) -> Iterator[Running]:
    """Run a program; `name` names its output files."""
    with (directory / f"{name}.out").open("wb") as out, (directory / f"{name}.err").open("wb") as e:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=e)
    program = Running(process, directory, name)
    try:
        yield program
    finally:
        program.stop()
        # pytest shows it where the test failed.
        print(
            f"--- {name}, exit code {program.exit_code}\n{program.err[-_SHOWN:]}", file=sys.stderr
        )


def run(
    argv: Sequence[str | Path],
    *,
    limit: float = LIMIT,
    env: Mapping[str, str] | None = None,
    told: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever its exit code; `told` is its standard input."""
    return subprocess.run(argv, input=told, capture_output=True, text=True, timeout=limit, env=env)
