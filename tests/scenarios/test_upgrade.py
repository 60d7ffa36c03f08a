"""An upgrade in place, again and again under load: nobody is refused, no session is cut, and what
operators said counts. One that fails leaves the old process serving.
"""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.clients.smtpload import Smtpload
from harness.mailweir.kernel_rig import PORT, Rig, kernel_rig
from harness.mailweir.replaced import farm_configuration, farm_of_two, lives, upgradable, upgrade
from harness.mailweir.run import Mailweir, Tree, mailweir
from harness.networks.row import LISTENER, Row
from harness.programs.supervisor import supervisor
from harness.scale import count
from harness.waiting import LIMIT, until
from scenarios.upgrading import DAWDLES, HANGS, POINTS, Program

_UPGRADES = count(3, 20)
_RATE = 300  # new sessions each second
_LONG = 200  # sessions that last
_LIMIT = 60.0  # seconds, of a command
Counted = Callable[[str], None]

pytestmark = [
    pytest.mark.needs("iproute2", "nftables", "clang"),
    pytest.mark.timeout(count(180, 900), func_only=True),
]


@contextmanager
def _rig(networks: Row, folder: Path, config: Tree, program: Program) -> Iterator[Rig]:
    with (
        kernel_rig(networks, folder, config, [str(program.file)]) as rig,
        upgradable(rig.balancer),
    ):
        yield rig


@pytest.mark.parametrize("forwarding", ["relay", "kernel"])
def test_upgrades_refuse_and_cut_nobody(
    tmp_path: Path, smtpload_binary: Path, counted: Counted, forwarding: str
) -> None:
    config = farm_configuration(tmp_path, forwarding=forwarding)
    seconds, talkers = [], list[Client]()
    with farm_of_two(tmp_path, smtpload_binary) as networks, ExitStack() as exits:
        rig = exits.enter_context(_rig(networks, tmp_path, config, Program(tmp_path)))
        balancer = rig.balancer
        clients = Smtpload(smtpload_binary, tmp_path, networks.before("c"))
        if forwarding == "kernel":
            _until_servers_are_known(rig)
        long_ones = (f"--concurrency={_LONG}", "--messages=30", "--think=500ms", f"--rate={_LONG}")
        lasting = exits.enter_context(
            clients.source("lasting", (LISTENER, PORT), *long_ones, "--duration=1000m")
        )
        until(lambda: _sessions(balancer) >= _LONG, "the long sessions")
        load = exits.enter_context(
            clients.source(
                "load", (LISTENER, PORT), f"--rate={_RATE}", "--concurrency=200", "--duration=1000m"
            )
        )
        assert balancer.command("weight", "farm/a", "50").returncode == 0
        assert balancer.command("deny", "192.0.2.0/24").returncode == 0
        pids = {balancer.pid}
        for _ in range(_UPGRADES):
            # One that is relayed: the old process lives on with it.
            talker = exits.enter_context(rig.client())
            talker.send(b"NOOP\r\n")
            talker.expect("220")
            talker.expect("250")
            began = time.monotonic()
            pids.add(upgrade(balancer))
            seconds.append(time.monotonic() - began)
            talkers.append(talker)
        for talker in talkers:
            talker.expect("221", "QUIT")
            talker.close()
        load.stop()
        short = load.sent(limit=LIMIT)
        lasting.stop()
        long_sent = lasting.sent(limit=4 * LIMIT)
        words = [word["what"] for word in balancer.status()["operator"]["words"]]
        last = balancer.status()["pid"]
        until(lambda: not any(map(lives, pids - {last})), "old processes to end")
        assert balancer.status()["before"] is None
    log = balancer.session_log()
    ids = Counter(line["id"] for line in log)
    counted(
        f"{_UPGRADES} upgrades by {forwarding}: {short.ok} sessions, failed {short.failures or 0};"
        f" {long_sent.ok} long ones, failed {long_sent.failures or 0}; an upgrade took"
        f" {max(seconds):.1f} s at most; longest command p99 {short.command_p99_ms} ms;"
        f" paths {Counter(line['path'] for line in log)}"
    )
    assert (short.failures, long_sent.failures) == ({}, {})
    assert sorted(words) == ["deny 192.0.2.0/24", "weight farm/a 50"]
    assert [one for one, times in ids.items() if times > 1] == []
    known = 4 if forwarding == "kernel" else 0
    assert len(log) == short.ok + long_sent.ok + _UPGRADES + known
    assert "flows end with the process" not in balancer.process.err
    if forwarding == "kernel":
        assert balancer.process.err.count("event=ready") == 1 + _UPGRADES


def _until_servers_are_known(rig: Rig) -> None:
    """What a server takes is known by its first session, which takes the relay."""
    for _ in range(4):
        with rig.client() as client:
            client.expect("220")
            client.expect("221", "QUIT")


def _sessions(balancer: Mailweir) -> int:
    return int(balancer.status()["sessions"])


@pytest.mark.parametrize("forwarding", ["relay", "kernel"])
def test_a_next_process_that_dies_changes_nothing(
    tmp_path: Path, smtpload_binary: Path, counted: Counted, forwarding: str
) -> None:
    program, config = Program(tmp_path), farm_configuration(tmp_path, forwarding=forwarding)
    with (
        farm_of_two(tmp_path, smtpload_binary) as networks,
        _rig(networks, tmp_path, config, program) as rig,
    ):
        balancer = rig.balancer
        clients = Smtpload(smtpload_binary, tmp_path, networks.before("c"))
        options = (f"--rate={_RATE}", "--concurrency=200", "--messages=3", "--duration=1000m")
        with clients.source("load", (LISTENER, PORT), *options) as load:
            for point in POINTS:
                program.replace(point)
                done = balancer.command("upgrade", limit=_LIMIT)
                assert done.returncode == 1
                assert "the old process goes on" in done.stderr
                assert "it ended before it could" in done.stderr
                assert balancer.status()["pid"] == balancer.pid
                assert balancer.command("weight", "farm/a", "50").returncode == 0
            program.replace("")
            upgrade(balancer)
            load.stop()
            sent = load.sent(limit=LIMIT)
        words = [word["what"] for word in balancer.status()["operator"]["words"]]
    counted(
        f"dead at {len(POINTS)} points, by {forwarding}: {sent.ok} fine, failed {sent.failures}"
    )
    # One that listened for a moment may have accepted somebody, whose session ends with it.
    assert "connect" not in sent.failures
    failed = sum(sum(kinds.values()) for kinds in sent.failures.values())
    assert failed < _RATE / 10, sent.failures
    assert words == ["weight farm/a 50"]


def test_a_new_main_that_dies_takes_no_old_session_along(
    tmp_path: Path, smtpload_binary: Path
) -> None:
    """Its supervisor begins it again; who comes meanwhile waits in the sockets that it keeps."""
    config = farm_configuration(tmp_path, forwarding="relay")
    program = Program(tmp_path)
    with farm_of_two(tmp_path, smtpload_binary) as networks, supervisor(tmp_path) as systemd:
        before = [*systemd.before(), str(program.file)]
        with kernel_rig(networks, tmp_path, config, before) as rig:
            systemd.until(lambda said: "READY=1" in said)
            old = rig.client()
            old.expect("220")
            main = upgrade(rig.balancer)
            systemd.until(lambda said: f"MAINPID={main}" in said)
            old.expect("250", "NOOP")
            os.kill(main, signal.SIGKILL)
            until(lambda: not lives(main), "it to be gone")
            with rig.client() as waiting, ExitStack() as exits:
                old.expect("250", "NOOP")
                assert rig.balancer.process.exit_code is None
                again = [*systemd.before(), str(program.file)]
                (tmp_path / "again").mkdir()
                exits.enter_context(
                    mailweir(tmp_path / "again", config, [*networks.before("l"), *again])
                )
                waiting.expect("220")
            old.expect("221", "QUIT")
            old.close()
            assert rig.balancer.process.wait() == 0


def test_a_flow_has_one_place(tmp_path: Path, smtpload_binary: Path) -> None:
    """Those that the next process takes over aren't counted as sessions of the old one as well."""
    config = farm_configuration(tmp_path, max_sessions=6)
    relayed = (LISTENER, PORT + 1)
    config["listeners"]["relayed"] = {
        "bind": ["{}:{}".format(*relayed)],
        "pool": "farm",
        "forwarding": "relay",
    }
    with (
        farm_of_two(tmp_path, smtpload_binary) as networks,
        _rig(networks, tmp_path, config, Program(tmp_path)) as rig,
        ExitStack() as exits,
    ):
        _until_servers_are_known(rig)
        until(lambda: not _sessions(rig.balancer), "these to be over")
        for _ in range(4):
            exits.enter_context(rig.client()).expect("220")
        until(lambda: rig.flows() == 4, "flows")
        talker = exits.enter_context(networks.inside("c", lambda: Client(relayed)).result(LIMIT))
        talker.expect("220")
        upgrade(rig.balancer)
        until(lambda: rig.balancer.status()["before"], "the old process's session to be known")
        with rig.client() as last:
            last.expect("220")
            last.expect("221", "QUIT")
        talker.expect("221", "QUIT")


def _early(rig: Rig, exits: ExitStack) -> Client:
    """Who talks before the greeting is relayed."""
    talker = exits.enter_context(rig.client())
    talker.send(b"NOOP\r\n")
    talker.expect("220")
    talker.expect("250")
    return talker


def test_what_is_said_to_the_last_of_three_reaches_the_first(
    tmp_path: Path, smtpload_binary: Path
) -> None:
    config = farm_configuration(
        tmp_path, forwarding="relay", drain={"quiet": "100ms", "spread": "0s"}
    )
    with (
        farm_of_two(tmp_path, smtpload_binary) as networks,
        kernel_rig(networks, tmp_path, config, [str(Program(tmp_path).file)]) as rig,
        ExitStack() as exits,
    ):
        balancer, pids, talkers = rig.balancer, [rig.balancer.pid], [_early(rig, exits)]
        for number in (1, 2):
            pids.append(upgrade(balancer))
            until(lambda: balancer.status()["before"]["sessions"] == len(pids) - 1, "those before")
            assert all(map(lives, pids))
            if number == 1:
                talkers.append(_early(rig, exits))
        os.kill(pids[-1], signal.SIGUSR1)
        for talker in talkers:
            talker.expect("250", "NOOP")
        assert balancer.command("drain", "farm/a").returncode == 0
        os.kill(pids[-1], signal.SIGTERM)
        # They leave between two commands, and the processes with them.
        for talker in talkers:
            assert "421" in talker.rest().decode()
        until(lambda: not any(map(lives, pids)), "all three to end")
        said = balancer.process.err
        assert said.count("the session log is to be opened anew") == 3
        assert said.count("stopping, every session has ended") == 3


def _begun(rig: Rig) -> int:
    """The next process, on its way."""
    words = re.compile(r'event="the next process begins" pid=(\d+)')
    return int(until(lambda: words.findall(rig.balancer.process.err), "it to begin")[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_next_process_that_hangs_keeps_no_start(
    tmp_path: Path, smtpload_binary: Path, number: signal.Signals
) -> None:
    """The old one ends meanwhile, in order or not: the lock is free."""
    program, config = Program(tmp_path), farm_configuration(tmp_path, forwarding="relay")
    with farm_of_two(tmp_path, smtpload_binary) as networks:
        with (
            kernel_rig(networks, tmp_path, config, [str(program.file)]) as rig,
            ThreadPoolExecutor(1) as beside,
        ):
            program.replace(HANGS)
            asked = beside.submit(rig.balancer.command, "upgrade", limit=_LIMIT)
            next_one = _begun(rig)
            rig.balancer.process.send(number)
            rig.balancer.process.wait()
            assert asked.result().returncode == 1
            until(lambda: not lives(next_one), "it to be gone")
            program.replace("")
        with (
            kernel_rig(networks, tmp_path, config, [str(program.file)]) as rig,
            rig.client() as client,
        ):
            client.expect("220")


def test_who_is_told_to_end_while_it_hands_over_passes_that_on(
    tmp_path: Path, smtpload_binary: Path
) -> None:
    program, config = Program(tmp_path), farm_configuration(tmp_path, forwarding="relay")
    with (
        farm_of_two(tmp_path, smtpload_binary) as networks,
        kernel_rig(networks, tmp_path, config, [str(program.file)]) as rig,
        ThreadPoolExecutor(1) as beside,
    ):
        program.replace(DAWDLES)
        asked = beside.submit(rig.balancer.command, "upgrade", limit=_LIMIT)
        said = rig.balancer.process
        next_one = _begun(rig)
        until(lambda: f"{DAWDLES}\n" in said.err, "its listeners")
        said.send(signal.SIGTERM)
        assert said.wait() == 0
        until(lambda: not lives(next_one), "both to be gone")
        assert asked.result().returncode == 0


def test_process_1_does_not_give_way(tmp_path: Path, smtpload_binary: Path) -> None:
    """A container ends with it."""
    container = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    config = farm_configuration(tmp_path, forwarding="relay")
    with (
        farm_of_two(tmp_path, smtpload_binary) as networks,
        kernel_rig(networks, tmp_path, config, container) as rig,
    ):
        done = rig.balancer.command("upgrade")
        assert (done.returncode, "a container ends with it" in done.stderr) == (1, True)
        with rig.client() as client:
            client.expect("220")
