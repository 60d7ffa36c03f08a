"""A session log that takes nothing: flows give back what they have, also when they end by the
hundred, and what isn't in the log is counted.
"""

import fcntl
import json
import os
import select
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from harness.clients.smtpload import Smtpload
from harness.mailweir.kernel_rig import PORT, Rig, kernel_rig, rig_configuration
from harness.needs import private_mounts
from harness.networks.row import LISTENER, SERVER, bpf_files, row
from harness.process import Running
from harness.scale import count
from harness.waiting import LIMIT, until
from scenarios.victims import LOG, PORTS, Counts, Victim, counts

_ROUNDS = count(3, 20)
# All at a time: nearly each has a port of its own.
_SESSIONS = PORTS - 11
# More than the queue of the log has places for, in a long run.
_MANY = count(300, 20_000)
_PLACES = count(100, 18_000)
_FULL = """
    mkdir -p "$0" && mount -t tmpfs -o size=64k none "$0"
    dd if=/dev/zero of="$0/ballast" bs=4k 2>/dev/null || true
    exec "$@"
"""

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


@pytest.mark.parametrize("log", ["whose disk is full", "that is a pipe which nobody reads"])
def test_places_ports_and_keys_come_back(
    tmp_path: Path, victim: Path, smtpload_binary: Path, counted: Callable[[str], None], log: str
) -> None:
    """Each round has ports for its sessions only if those of the one before have come back; the
    process ends where a session takes the relay.
    """
    bpf_files()
    with row() as networks, ExitStack() as exits:
        exits.enter_context(_sinks(smtpload_binary, tmp_path, networks.before("s")))
        load = Smtpload(smtpload_binary, tmp_path, networks.before("c"))
        folder = tmp_path / "log"
        before: list[str | Path] = []
        folder.mkdir()
        if log == "whose disk is full":
            before = [*private_mounts(), "sh", "-c", _FULL, folder]
        else:
            exits.enter_context(_unread(folder / LOG))
        process = exits.enter_context(
            Victim(victim, networks, folder).runs("victim", "never", before)
        )
        for number in range(1, _ROUNDS + 1):
            _send(load, f"round{number}", _SESSIONS, _SESSIONS)
            process.until(partial(_is_clean, process, number * _SESSIONS), "nothing to be left")
        said = _counts(process)
    counted(f"{said.handed_over} flows in {_ROUNDS} rounds, {said.lost} not in the log")
    assert said.handed_over == _ROUNDS * _SESSIONS
    # A pipe takes some before it takes nothing.
    assert said.lost == said.handed_over if before else 0 < said.lost < said.handed_over


def _counts(process: Running) -> Counts:
    return counts(process) or Counts()


def _is_clean(process: Running, sessions: int) -> bool:
    said = _counts(process)
    return said.has_nothing and said.lingering == 0 and said.handed_over == sessions


def test_one_that_hangs(
    tmp_path: Path, smtpload_binary: Path, counted: Callable[[str], None]
) -> None:
    """Nobody reads standard error, which is written to without an end: its records keep no place
    that a session could have. They are written as soon as somebody reads.
    """
    config = rig_configuration(tmp_path, max_flows=_PLACES, log={"sessions": "stderr"})
    fifo = tmp_path / "stderr"
    hangs = ["sh", "-c", 'exec "$@" 2>"$0"', str(fifo)]
    with row() as networks, ExitStack() as exits:
        reader = exits.enter_context(_unread(fifo))
        exits.enter_context(_sinks(smtpload_binary, tmp_path, networks.before("s")))
        load = Smtpload(smtpload_binary, tmp_path, networks.before("c"))
        with kernel_rig(networks, tmp_path, config, hangs) as rig:
            _send(load, "many", _MANY, 50)
            until(lambda: rig.balancer.status()["sessions"] == 0, "all to end")
            assert rig.balancer.servers()["a"]["active"] == 0
            carried = _hand_overs(rig)
            until(partial(_is_carried, rig, load), "a place for one more", limit=2 * LIMIT)
            full = rig.relayed("table_full")
            given_up = int(rig.balancer.metric("mailweir_kernel_path_given_up_total"))
            sessions = rig.balancer.metric("mailweir_listener_connections_total", listener="mx")
            lines = exits.enter_context(_read_on(reader))
            until(lambda: _places(rig) == 0, "all places to be free", limit=2 * LIMIT)
            until(lambda: _told(rig) == sessions, "each session to be in the log or lost")
            lost = int(rig.balancer.status()["log"]["dropped"])
        ids = Counter(json.loads(line)["id"] for line in lines() if line.startswith("{"))
    counted(
        f"{_MANY} sessions, {carried} in the kernel and {full} not for want of a place, while"
        f" nobody read, {given_up} places given up; then {len(ids)} in the log, {lost} lost"
    )
    assert 0 < given_up <= carried
    assert len(ids) + lost == sessions
    assert set(ids.values()) == {1}


def _is_carried(rig: Rig, load: Smtpload) -> bool:
    """Whether one more session is."""
    before = _hand_overs(rig)
    _send(load, f"one-{os.urandom(4).hex()}", 1, 1)
    return _hand_overs(rig) > before


def _hand_overs(rig: Rig) -> int:
    return int(rig.balancer.metric("mailweir_kernel_path_hand_overs_total"))


def _places(rig: Rig) -> int:
    return int(rig.balancer.metric("mailweir_kernel_path_places_taken"))


def _told(rig: Rig) -> int:
    log = rig.balancer.status()["log"]
    return int(log["lines"]) + int(log["dropped"])


@contextmanager
def _sinks(binary: Path, directory: Path, before: Sequence[str]) -> Iterator[None]:
    with Smtpload(binary, directory, before).sink("sink", listen=(f"{SERVER}:{PORT}",)):
        yield


def _send(load: Smtpload, name: str, sessions: int, at_a_time: int) -> None:
    amount = (f"--sessions={sessions}", f"--concurrency={at_a_time}")
    with load.source(name, (LISTENER, PORT), *amount) as source:
        sent = source.sent(LIMIT + sessions / 50)
    assert (sent.ok, sent.failed) == (sessions, 0), sent.failures


@contextmanager
def _unread(path: Path) -> Iterator[int]:
    """A pipe, and its end that could be read."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
        yield reader
    finally:
        os.close(reader)


@contextmanager
def _read_on(reader: int) -> Iterator[Callable[[], list[str]]]:
    """Somebody reads it all from here on: the lines so far, or all of them behind the block."""
    end, read = os.eventfd(0), bytearray()

    def work() -> None:
        while end not in select.select([reader, end], [], [])[0]:
            read.extend(os.read(reader, 1 << 16))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield lambda: read.decode().splitlines()
    finally:
        os.eventfd_write(end, 1)
        thread.join()
        os.close(end)
