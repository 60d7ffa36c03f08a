"""Python is busy for seconds and lets nobody in: sessions go on as if it were idle."""

import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mailweir
from harness.clients.dialogue import Address, Client
from harness.process import Running, running
from harness.scale import count
from harness.servers.crowd import crowd
from harness.waiting import LIMIT
from scenarios import busy_python

_SECONDS = count(3.0, 10.0)
_SESSIONS = count(500, 4000)
_CLIENTS = 4
# Of what is imported by a program of its own.
_PATHS = (Path(busy_python.__file__).parents[1], Path(mailweir.__path__[0]).parent)


def test_sessions_end_while_python_is_in_one_call(
    tmp_path: Path, counted: Callable[[str], None]
) -> None:
    path = f"PYTHONPATH={os.pathsep.join(map(str, _PATHS))}"
    with crowd(tmp_path, "polite") as (_, server):
        program = [sys.executable, "-m", busy_python.__name__]
        argv = ["env", path, *program, server, str(_SECONDS)]
        with running(argv, tmp_path, "busy") as process:
            host, _, port = _line(process, 0).rpartition(":")
            address = (host, int(port))
            idle = _sessions(address)

            process.send(signal.SIGUSR1)
            began = float(_line(process, 1))
            busy = _sessions(address)
            over = time.monotonic()
            ended, ran = _line(process, 2).split()

    counted(f"{len(idle)} sessions with an idle Python: {_spread(idle)}")
    counted(
        f"{len(busy)} sessions in {over - began:.2f} s of {float(ended) - began:.2f} s in one call:"
        f" {_spread(busy)}"
    )
    # At the very edges it may have run.
    assert int(ran) <= 2, "the call was to keep all others out"
    assert over < float(ended), "they were to end before the call did"


def _line(process: Running, number: int) -> str:
    """What it has printed, once that is a whole line."""

    def printed() -> str:
        *lines, _ = process.out.split("\n")
        return lines[number] if number < len(lines) else ""

    return process.until(printed, f"line {number} of {process.name}", limit=LIMIT + 5 * _SECONDS)


def _sessions(address: Address) -> list[float]:
    """How long each took, of some that all brought their mail."""
    with ThreadPoolExecutor(_CLIENTS) as pool:
        return list(pool.map(lambda _: _session(address), range(_SESSIONS)))


def _session(address: Address) -> float:
    began = time.monotonic()
    with Client(address) as client:
        client.begin_mail()
        client.expect("250", "hello\r\n.")
        client.expect("221", "QUIT")
        assert client.rest() == b""
    return time.monotonic() - began


def _spread(took: list[float]) -> str:
    ordered = sorted(took)
    p50, p99 = (1000 * ordered[int(share * len(ordered))] for share in (0.5, 0.99))
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
