"""Starts the servers and the clients, and reads what they counted. Used by `slow`, `slow_start`."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benches.choosing.figures import Span
from benches.peers.measure import machine_cpu_ns

from harness.process import Running, running

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Pace:
    """How fast a server is, in seconds, and how many sessions it has at a time."""

    places: int
    greeting: float = 0.020
    command: float = 0.0025
    message: float = 0.010

    def times(self, factor: float) -> "Pace":
        """One that takes so many times as long for everything."""
        return Pace(
            self.places, self.greeting * factor, self.command * factor, self.message * factor
        )

    @property
    def session(self) -> float:
        """Seconds of a session: EHLO, MAIL, RCPT and DATA are its commands."""
        return self.greeting + 4 * self.command + self.message

    @property
    def most(self) -> float:
        """Sessions a second that it has time for."""
        return self.places / self.session


class Server:
    """One of the farm's."""

    def __init__(self, process: Running) -> None:
        self._process = process
        port = process.until(lambda: process.out.partition("\n")[0], "a server to listen")
        self.address = f"127.0.0.2:{port}"

    def halt(self, seconds: float) -> None:
        """It stands still: its machine takes connections, and that is all."""
        self._process.send(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self._process.send(signal.SIGCONT)

    def end(self) -> list[Span]:
        """It refuses connections from now on; what it had, once its sessions have ended."""
        self._process.stop()
        return [Span(*one) for one in json.loads(self._process.out.splitlines()[-1])]


@contextmanager
def server(directory: Path, name: str, pace: Pace, listen: str = "127.0.0.2:0") -> Iterator[Server]:
    """A server; the same address again is that of one that came back."""
    argv = [sys.executable, str(_HERE / "server.py"), f"--listen={listen}"]
    argv += [f"--{key}={value}" for key, value in vars(pace).items()]
    with running(argv, directory, name) as process:
        yield Server(process)


@dataclass(frozen=True)
class Load:
    """What the clients saw; times in seconds. `cpu` is the share of the machine that was busy."""

    late: list[float]
    greeting: list[float]
    session: list[float]
    failed: dict[str, int]
    cpu: float


@dataclass(frozen=True)
class Sessions:
    """How many a second, for how long, at random moments by `seed` or evenly without one."""

    rate: float
    seconds: float
    seed: int | None


class Clients:
    """They run."""

    def __init__(self, process: Running) -> None:
        self._process = process
        self._began, self._cpu = time.monotonic(), machine_cpu_ns()

    def load(self, limit: float) -> Load:
        """What they saw, at their end."""
        code = self._process.wait(limit)
        assert code == 0, self._process.err
        wall = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        busy = (machine_cpu_ns() - self._cpu) / 1e9
        return Load(**json.loads(self._process.out), cpu=busy / wall)


@contextmanager
def clients(directory: Path, name: str, address: str, sessions: Sessions) -> Iterator[Clients]:
    """The load in the background."""
    spacing = "even" if sessions.seed is None else str(sessions.seed)
    host, _, port = address.rpartition(":")
    argv = [sys.executable, str(_HERE / "clients.py"), host, port]
    argv += [str(sessions.rate), str(sessions.seconds), spacing]
    with running(argv, directory, name) as process:
        yield Clients(process)
