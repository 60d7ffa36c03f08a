"""Runs `smtpload`, the sink behind and the source in front of every peer."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benches.peers.processes import on_core, running


@dataclass(frozen=True)
class Load:
    """What the source saw in one run; times in microseconds."""

    ok: int
    failed: int
    sessions_per_second: float
    bytes_per_second: float
    session_p50: float
    session_p99: float
    round_trip_p50: float
    round_trip_p99: float


@contextmanager
def sink(smtpload: str, directory: Path, core: int | None = None) -> Iterator[tuple[str, str]]:
    """Two servers that take everything; yields their addresses."""
    any_port = "--listen=127.0.0.1:0"
    argv = on_core(core, [smtpload, "sink", any_port, any_port])
    with running(argv, directory / "sink.log") as process:
        assert process.stdout  # a pipe, by the contract of `running`
        first, second = json.loads(process.stdout.readline())["listening"]
        yield first, second


def run_source(smtpload: str, address: str, arguments: list[str], core: int | None = None) -> Load:
    """Runs to its bound. Failed sessions are counted, not raised."""
    argv = on_core(core, [smtpload, "--json", "source", f"--connect={address}", *arguments])
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{argv} ended with {done.returncode}")
    report = json.loads(done.stdout)
    times = report["times_us"]
    return Load(
        ok=report["sessions"]["ok"],
        failed=report["sessions"]["failed"],
        sessions_per_second=report["sessions_per_second"],
        bytes_per_second=report["bytes_per_second"],
        session_p50=times["session"]["p50"],
        session_p99=times["session"]["p99"],
        round_trip_p50=times["round_trip"]["p50"],
        round_trip_p99=times["round_trip"]["p99"],
    )
