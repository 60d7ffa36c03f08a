"""Where the system refuses what makes relaying cheap, bytes go another way, and are the same.

Each session echoes so much that most of it is spliced where that can be. How much is copied
all the same is the sender's timing: after a read of less than 16 KiB the next one is copied.
"""

import fcntl
import os
import random
import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.clients.smtpload import Smtpload
from harness.machine.sandbox import sandboxed
from harness.mailweir.run import Mailweir, configuration
from harness.scale import count
from harness.servers.echo import echoing
from harness.waiting import until
from scenarios.conftest import Start

_SESSIONS = 8
_SIZE = 4 << 20
_SOFT_LIMIT = Path("/proc/sys/fs/pipe-user-pages-soft")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LARGE = 1 << 20
# io_uring has a call for each step of its life.
_FORBIDDEN = (
    "io_uring_setup=EPERM",
    "io_uring_enter=EPERM",
    "io_uring_register=EPERM",
    "bpf=EPERM",
)
_MAILS = count(20, 500)  # of each size
_SIZES = ("1k", "64k", "4m")

Counted = Callable[[str], None]


def test_nothing_is_denied(tmp_path: Path, start: Start, counted: Counted) -> None:
    with _exchanged(tmp_path, start, []) as balancer:
        spliced, copied = _carried(balancer)
        counted(f"{spliced / (spliced + copied):.1%} of the bytes spliced")
        assert spliced > copied
        assert {line["path"] for line in balancer.session_log()} == {"splice"}
        assert balancer.metric("mailweir_relay_pipe_fallbacks_total") == 0


def test_without_io_uring_and_bpf(tmp_path: Path, start: Start) -> None:
    with _exchanged(tmp_path, start, sandboxed(*_FORBIDDEN)) as balancer:
        spliced, copied = _carried(balancer)
        assert spliced > copied
        assert not _complaints(balancer)


def test_mail_without_io_uring_and_bpf(
    tmp_path: Path, start: Start, smtpload: Smtpload, counted: Counted
) -> None:
    with smtpload.sink("a", "--hash") as sink:
        balancer = start(configuration(tmp_path, {"a": sink.addresses[0]}), sandboxed(*_FORBIDDEN))
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        for size in _SIZES:
            options = (f"--sessions={_MAILS}", f"--size={size}")
            with smtpload.source(f"of-{size}", balancer.address(), *options) as source:
                sent = source.sent(limit=120)
            assert (sent.ok, sent.failed, sent.acknowledged) == (_MAILS, 0, _MAILS), sent.failures
        assert not _complaints(balancer)
        report = sink.report()
    ids, mails = report["message_ids"], len(_SIZES) * _MAILS
    assert (ids["distinct"], ids["missing"], ids["damaged"], ids["duplicates"]) == (mails, 0, 0, {})
    counted(f"{_MAILS} mails each of {', '.join(_SIZES)}")


@pytest.mark.parametrize("error", ["EINVAL", "EPERM", "ENOSYS"])
def test_without_splice(tmp_path: Path, start: Start, error: str) -> None:
    with _exchanged(tmp_path, start, sandboxed(f"splice={error}")) as balancer:
        assert _carried(balancer) == (0, 2 * _SESSIONS * _SIZE)
        assert {line["path"] for line in balancer.session_log()} == {"copy"}

        def all_know() -> bool:
            assert _session_echoes(balancer, 0)
            return balancer.metric("mailweir_relay_pipe_budget") == 0

        # Each finds out by a session of its own, and the kernel chooses whose a session is.
        until(all_know, "all workers to use no pipes")
        assert _carried(balancer)[0] == 0


def test_without_capabilities(tmp_path: Path, start: Start) -> None:
    with _exchanged(tmp_path, start, sandboxed(powerless=True)) as balancer:
        spliced, copied = _carried(balancer)
        assert spliced > copied


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


def test_without_descriptors_for_pipes(tmp_path: Path, start: Start, counted: Counted) -> None:
    """The sessions have theirs; once there are some again, pipes are made after all."""
    with _running(tmp_path, start, []) as balancer, ExitStack() as exits:
        clients = [exits.enter_context(Client(balancer.address())) for _ in range(_SESSIONS)]
        assert all(_echo(client, seed, size=1) for seed, client in enumerate(clients))
        with ThreadPoolExecutor(_SESSIONS) as pool:
            with _no_descriptors(balancer):
                assert all(pool.map(_echo, clients, range(_SESSIONS)))
            spliced, copied = _carried(balancer)
            fallbacks = balancer.metric("mailweir_relay_pipe_fallbacks_total")
            counted(f"{copied:.0f} bytes copied, {fallbacks:.0f} times for want of descriptors")
            assert (spliced, copied) == (0, 2 * _SESSIONS * (_SIZE + 1))
            assert fallbacks > 0
            assert balancer.metric("mailweir_relay_pipe_budget") > 0
            assert all(pool.map(_echo, clients, range(_SESSIONS)))
        assert _carried(balancer)[0] > _SESSIONS * _SIZE  # most of what came since


@contextmanager
def _exchanged(directory: Path, start: Start, before: Sequence[str]) -> Iterator[Mailweir]:
    """mailweir once sessions have sent and got back what they sent, and are in the log."""
    with _running(directory, start, before) as balancer:
        with ThreadPoolExecutor(_SESSIONS) as pool:
            assert all(pool.map(lambda seed: _session_echoes(balancer, seed), range(_SESSIONS)))
        until(lambda: len(balancer.session_log()) == _SESSIONS, "all sessions in the log")
        yield balancer


@contextmanager
def _running(directory: Path, start: Start, before: Sequence[str]) -> Iterator[Mailweir]:
    """mailweir before a server that sends back what it gets, and is checked just once."""
    with echoing() as server:
        check = {"kind": "tcp", "every": "1h"}
        config = configuration(directory, {"a": server}, protocol="tcp", check=check)
        balancer = start(config, before)
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        yield balancer


def _session_echoes(balancer: Mailweir, seed: int) -> bool:
    """Whether everything came back that was sent in a session."""
    with Client(balancer.address()) as client:
        return _echo(client, seed)


def _echo(client: Client, seed: int, size: int = _SIZE) -> bool:
    """Whether everything came back that was sent."""
    said = random.Random(seed).randbytes(size)  # noqa: S311 - bytes that differ, no secret
    sender = threading.Thread(target=client.send, args=(said,))
    sender.start()
    heard = client.read(size)
    sender.join()
    return heard == said


def _carried(balancer: Mailweir) -> tuple[float, float]:
    """Bytes that were spliced, and copied."""
    spliced = balancer.metric("mailweir_relay_spliced_bytes_total")
    return spliced, balancer.metric("mailweir_relay_copied_bytes_total")


def _complaints(balancer: Mailweir) -> list[str]:
    """What it has said that isn't how things go, by itself or by a library."""
    return [line for line in balancer.process.err.splitlines() if " level=info " not in line]


@contextmanager
def _no_descriptors(balancer: Mailweir) -> Iterator[None]:
    """The process may open none; those that it has stay open."""
    soft, hard = resource.prlimit(balancer.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(balancer.pid, resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.prlimit(balancer.pid, resource.RLIMIT_NOFILE, (soft, hard))


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
