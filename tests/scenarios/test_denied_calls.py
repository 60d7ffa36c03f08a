"""Where the system refuses what makes relaying cheap, bytes go another way, and are the same.

Each session echoes so much that it is spliced where that can be.
"""

import fcntl
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.dialogue import Client
from harness.echo import echoing
from harness.mailweir import Mailweir, configuration
from harness.sandbox import sandboxed
from harness.waiting import until
from scenarios.conftest import Start

_SESSIONS = 8
_SIZE = 4 << 20
_SOFT_LIMIT = Path("/proc/sys/fs/pipe-user-pages-soft")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LARGE = 1 << 20

Counted = Callable[[str], None]


def test_nothing_is_denied(tmp_path: Path, start: Start, counted: Counted) -> None:
    with _exchanged(tmp_path, start, []) as balancer:
        spliced, copied = _carried(balancer)
        counted(f"{spliced / (spliced + copied):.1%} of the bytes spliced")
        assert spliced > 0.95 * (spliced + copied)
        assert {line["path"] for line in balancer.session_log()} == {"splice"}
        assert balancer.metric("mailweir_relay_pipe_fallbacks_total") == 0


def test_without_io_uring_and_bpf(tmp_path: Path, start: Start) -> None:
    calls = ("io_uring_setup", "io_uring_enter", "io_uring_register", "bpf")
    with _exchanged(tmp_path, start, sandboxed(*(f"{call}=EPERM" for call in calls))) as balancer:
        spliced, copied = _carried(balancer)
        assert spliced > 0.95 * (spliced + copied)
        assert not _complaints(balancer)


@pytest.mark.parametrize("error", ["EINVAL", "EPERM", "ENOSYS"])
def test_without_splice(tmp_path: Path, start: Start, error: str) -> None:
    with _exchanged(tmp_path, start, sandboxed(f"splice={error}")) as balancer:
        assert _carried(balancer) == (0, 2 * _SESSIONS * _SIZE)
        assert {line["path"] for line in balancer.session_log()} == {"copy"}
        assert balancer.metric("mailweir_relay_pipe_budget") == 0


def test_without_capabilities(tmp_path: Path, start: Start) -> None:
    with _exchanged(tmp_path, start, sandboxed(powerless=True)) as balancer:
        spliced, copied = _carried(balancer)
        assert spliced > 0.95 * (spliced + copied)


def test_where_others_of_the_same_user_hold_all_pipes(
    tmp_path: Path, start: Start, counted: Counted
) -> None:
    """Pipes beyond the user's limit hold next to nothing: they are no use."""
    with _all_pipes_taken(), _exchanged(tmp_path, start, sandboxed(powerless=True)) as balancer:
        spliced, copied = _carried(balancer)
        fallbacks = balancer.metric("mailweir_relay_pipe_fallbacks_total")
        counted(
            f"{spliced} bytes spliced, {copied} copied, {fallbacks:.0f} times for want of pipes"
        )
        assert copied > spliced
        assert fallbacks > 0


@contextmanager
def _exchanged(directory: Path, start: Start, before: Sequence[str]) -> Iterator[Mailweir]:
    """mailweir once sessions have sent and got back what they sent, and are in the log."""
    with echoing() as server:
        config = configuration(directory, {"a": server}, protocol="tcp", check={"kind": "tcp"})
        balancer = start(config, before)
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        with ThreadPoolExecutor(_SESSIONS) as pool:
            assert all(pool.map(lambda seed: _echoes(balancer, seed), range(_SESSIONS)))
        until(lambda: len(balancer.session_log()) == _SESSIONS, "all sessions in the log")
        yield balancer


def _echoes(balancer: Mailweir, seed: int) -> bool:
    """Whether everything that was sent came back."""
    said = random.Random(seed).randbytes(_SIZE)  # noqa: S311 - bytes that differ, no secret
    with Client(balancer.address()) as client:
        sender = threading.Thread(target=client.send, args=(said,))
        sender.start()
        heard = client.socket.makefile("rb").read(_SIZE)
        sender.join()
    return heard == said


def _carried(balancer: Mailweir) -> tuple[float, float]:
    """Bytes that were spliced, and copied."""
    spliced = balancer.metric("mailweir_relay_spliced_bytes_total")
    return spliced, balancer.metric("mailweir_relay_copied_bytes_total")


def _complaints(balancer: Mailweir) -> list[str]:
    lines = balancer.process.err.splitlines()
    return [line for line in lines if "level=warning" in line or "level=error" in line]


@contextmanager
def _all_pipes_taken() -> Iterator[None]:
    """This process, which may, holds as many pages in pipes as a user without privilege."""
    limit = int(_SOFT_LIMIT.read_text()) * _PAGE
    ends = [os.pipe() for _ in range(limit // _LARGE + 1)]
    try:
        for _, into in ends:
            fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _LARGE)
        yield
    finally:
        for pair in ends:
            for end in pair:
                os.close(end)
