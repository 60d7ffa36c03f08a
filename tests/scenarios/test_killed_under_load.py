"""A process that is killed again and again under a crowd that is busy: what was handed over goes
on, each session that ended is in the log, once, and nothing is left.
"""

import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from harness.clients.smtpload import Sent, Smtpload
from harness.mailweir.kernel_rig import PORT, kernel_rig, rig_configuration
from harness.mailweir.run import COMMAND, Mailweir, Tree, write
from harness.mailweir.torn_log import torn_log
from harness.networks.row import LISTENER, SERVER, Row, bpf_files, row
from harness.process import running
from harness.scale import count
from harness.waiting import LIMIT, until

_KILLS = count(6, 200)
_AT_A_TIME = 200
_RATE = 300  # sessions a second, as far as _AT_A_TIME lets them
_MAILS = 20  # in each, for four seconds
_THINK = 0.2  # seconds
# After which the process dies, at most: since it began, or since it listens.
_SOON = 1.0
# Who hasn't had a greeting may try again: nothing was handed over.
_BEFORE = {"connect", "greeting"}
# So that nobody comes back from the same port at once.
_CLIENTS = [f"10.1.0.{last}" for last in range(20, 28)]

pytestmark = [
    pytest.mark.needs("iproute2", "nftables", "clang"),
    pytest.mark.timeout(count(180, 1800), func_only=True),
]


def test_no_session_is_lost(
    tmp_path: Path, smtpload_binary: Path, counted: Callable[[str], None]
) -> None:
    seed = secrets.randbelow(1 << 32)
    chance = random.Random(seed)  # noqa: S311 # the same again is what we want
    counted(f"seed {seed}")
    config = rig_configuration(tmp_path)
    with row() as networks, ExitStack() as exits:
        for client in _CLIENTS:
            networks.run("c", "ip", "address", "add", f"{client}/24", "dev", "balancer")
        servers = Smtpload(smtpload_binary, tmp_path, networks.before("s"))
        sink = exits.enter_context(servers.sink("sink", "--hash", listen=(f"{SERVER}:{PORT}",)))
        clients = Smtpload(smtpload_binary, tmp_path, networks.before("c"))
        with clients.source("load", (LISTENER, PORT), *_load()) as source:
            dead = [_dies(networks, tmp_path, config, chance) for _ in range(_KILLS)]
            with kernel_rig(networks, tmp_path, config) as rig:
                source.stop()
                sent = source.sent(4 * LIMIT)
                until(lambda: rig.flows() == 0, "all flows to end")
                places = partial(rig.balancer.metric, "mailweir_kernel_path_places_taken")
                until(lambda: places() == 0, "no place to be left")
                assert rig.balancer.status()["sessions"] == 0
                assert rig.balancer.servers()["a"]["active"] == 0
        report = sink.report()
    log, torn = torn_log(tmp_path / "sessions.log")
    ids = Counter(line["id"] for line in log)
    twice = [line for line in log if ids[line["id"]] > 1]
    ready = sum(one.listened for one in dead)
    busy = sorted(one.sessions for one in dead)
    counted(f"sessions at a kill: {busy[0]} to {busy[-1]}, {busy[len(busy) // 2]} in the middle")
    counted(
        f"{_KILLS} kills, {ready} of them of one that listened: {sent.ok} sessions,"
        f" {sent.acknowledged} mails, failed {sent.failures}; in the log {len(ids)},"
        f" {len(log) - len(ids)} of them twice, {torn} lines torn;"
        f" {Counter((line['path'], line['end_reason']) for line in log)}"
    )
    _is_well(sent, report)
    assert not twice, twice
    # Another one than that of a client is of who wasn't greeted.
    quits = [line for line in log if line["end_reason"] == "client_quit"]
    assert len(quits) == sent.ok
    assert {line["path"] for line in quits} == {"kernel"}


def _load() -> Sequence[str]:
    return (
        "--duration=1000m",
        f"--rate={_RATE}",
        f"--concurrency={_AT_A_TIME}",
        f"--messages={_MAILS}",
        f"--think={1000 * _THINK:.0f}ms",
        f"--source-ips={','.join(_CLIENTS)}",
    )


@dataclass(frozen=True)
class _Dead:
    """A process that was killed: whether it had got so far as to listen, and how many sessions were
    open then.
    """

    listened: bool
    sessions: int


def _dies(networks: Row, directory: Path, config: Tree, chance: random.Random) -> _Dead:
    """One that is killed, at some time."""
    waits, soon = chance.random() < 0.7, _SOON * chance.random()
    with _started(networks, directory, config) as balancer:
        if waits:
            until(balancer.is_listening, "it to listen")
        time.sleep(soon)
        listened = waits or balancer.is_listening()
        sessions = networks.inside("c", _connections).result(LIMIT)
        balancer.process.kill()
    return _Dead(listened, sessions)


def _connections() -> int:
    """Of this thread's network, established."""
    lines = Path("/proc/thread-self/net/tcp").read_text().splitlines()
    return sum(line.split()[3] == "01" for line in lines[1:])


@contextmanager
def _started(networks: Row, directory: Path, config: Tree) -> Iterator[Mailweir]:
    """A process that may not be there yet."""
    bpf_files()
    file = directory / "mailweir.yaml"
    write(file, config)
    argv: list[str | Path] = [*networks.before("l"), *COMMAND, "run", "-c", file]
    with running(argv, directory, "mailweir") as process:
        yield Mailweir(process, file, Path(config["admin"]["socket"]))


def _is_well(sent: Sent, report: Tree) -> None:
    """No session was lost that had been greeted, no mail was lost, and none came twice."""
    assert sent.failures.keys() <= _BEFORE, sent.failures
    messages = report["message_ids"]
    assert (messages["damaged"], messages["duplicates"]) == (0, {})
    assert messages["distinct"] == sent.acknowledged == _MAILS * sent.ok
