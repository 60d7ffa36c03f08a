"""Child processes that end with the run, whatever way it ends."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_START_LIMIT = 15.0
_STOP_LIMIT = 10.0

Process = subprocess.Popen[str]


@contextmanager
def running(argv: list[str], log: Path) -> Iterator[Process]:
    """Runs a program whose standard output can be read and whose errors go to `log`."""
    with log.open("w") as errors:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def on_core(core: int | None, argv: list[str]) -> list[str]:
    """A command that stays on one core, where it is to."""
    return argv if core is None else ["taskset", "--cpu-list", str(core), *argv]


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_greeting(port: int, process: Process, log: Path) -> None:
    """Waits until a connection to `port` brings the greeting of a server behind it."""
    deadline = time.monotonic() + _START_LIMIT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if _greets(port):
            return
        time.sleep(0.05)
    said = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"{process.args!r} does not pass a greeting on port {port}:\n{said}")


def _greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            stream = connection.makefile("rb")
            greeted = stream.readline().startswith(b"220")
            if greeted:
                connection.sendall(b"QUIT\r\n")
                stream.readline()
            return greeted
    except OSError:
        return False
