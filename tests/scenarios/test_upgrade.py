"""An upgrade in place, again and again under load: nobody is refused, no session is cut, and what
operators said counts. One that fails leaves the old process serving.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.clients.smtpload import Smtpload
from harness.mailweir.kernel_rig import PORT, Rig, kernel_rig, rig_configuration
from harness.mailweir.run import Mailweir, Tree, mailweir
from harness.networks.row import LISTENER, SERVER, Row, row
from harness.programs.supervisor import supervisor
from harness.scale import count
from harness.waiting import LIMIT, until
from scenarios.upgrading import POINTS, Program

_UPGRADES = count(3, 20)
_RATE = 300  # new sessions each second
_LONG = 200  # sessions that last
_UPGRADE_LIMIT = 60.0  # seconds
Counted = Callable[[str], None]

pytestmark = [
    pytest.mark.needs("iproute2", "nftables", "clang"),
    pytest.mark.timeout(count(180, 900), func_only=True),
]


@contextmanager
def _upgradable(networks: Row, folder: Path, config: Tree, program: Program) -> Iterator[Rig]:
    """mailweir, and whoever has taken over from it in the end."""
    with kernel_rig(networks, folder, config, [str(program.file)]) as rig:
        first = rig.balancer.pid
        try:
            yield rig
        finally:
            last = rig.balancer.status()["pid"]
            if last != first:
                os.kill(last, signal.SIGTERM)
                until(lambda: not _lives(last), "the last process to end")


def _upgrade(balancer: Mailweir) -> int:
    """The process that serves afterwards."""
    before = balancer.status()["pid"]
    done = balancer.command("upgrade", limit=_UPGRADE_LIMIT)
    assert (done.returncode, done.stderr) == (0, ""), balancer.process.err[-4000:]
    after: int = balancer.status()["pid"]
    assert after != before
    assert f"process {after} serves" in done.stdout
    return after


def _lives(pid: int) -> bool:
    try:
        # It isn't our child: nobody waits for it but its own parent, or PID 1.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def _farm(folder: Path, binary: Path) -> Iterator[Row]:
    with row() as networks:
        servers = Smtpload(binary, folder, networks.before("s"))
        listen = (f"{SERVER}:{PORT}", f"{SERVER}:{PORT + 1}")
        with servers.sink("servers", listen=listen):
            yield networks


def _configuration(folder: Path, **more: object) -> Tree:
    config = rig_configuration(folder, **more)
    config["pools"]["farm"]["servers"]["b"] = {"address": f"{SERVER}:{PORT + 1}", "proxy": "off"}
    return config


@pytest.mark.parametrize("forwarding", ["relay", "kernel"])
def test_upgrades_refuse_and_cut_nobody(
    tmp_path: Path, smtpload_binary: Path, counted: Counted, forwarding: str
) -> None:
    config = _configuration(tmp_path, forwarding=forwarding)
    seconds, talkers = [], list[Client]()
    with _farm(tmp_path, smtpload_binary) as networks, ExitStack() as exits:
        rig = exits.enter_context(_upgradable(networks, tmp_path, config, Program(tmp_path)))
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
            pids.add(_upgrade(balancer))
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
        until(lambda: not any(map(_lives, pids - {last})), "old processes to end")
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
    program, config = Program(tmp_path), _configuration(tmp_path, forwarding=forwarding)
    with (
        _farm(tmp_path, smtpload_binary) as networks,
        _upgradable(networks, tmp_path, config, program) as rig,
    ):
        balancer = rig.balancer
        clients = Smtpload(smtpload_binary, tmp_path, networks.before("c"))
        options = (f"--rate={_RATE}", "--concurrency=200", "--messages=3", "--duration=1000m")
        with clients.source("load", (LISTENER, PORT), *options) as load:
            for point in POINTS:
                program.replace(point)
                done = balancer.command("upgrade", limit=_UPGRADE_LIMIT)
                assert done.returncode == 1
                assert "the old process goes on" in done.stderr
                assert "it ended before it could" in done.stderr
                assert balancer.status()["pid"] == balancer.pid
                assert balancer.command("weight", "farm/a", "50").returncode == 0
            program.replace("")
            _upgrade(balancer)
            load.stop()
            sent = load.sent(limit=LIMIT)
        words = [word["what"] for word in balancer.status()["operator"]["words"]]
    counted(
        f"dead at {len(POINTS)} points, by {forwarding}: {sent.ok} fine, failed {sent.failures}"
    )
    # One that listened for a moment may have accepted somebody, who hears no greeting.
    assert sent.failures.keys() <= {"greeting"}
    assert sum(sent.failures.get("greeting", {}).values()) < _RATE / 10
    assert words == ["weight farm/a 50"]


def test_a_new_main_that_dies_takes_no_old_session_along(
    tmp_path: Path, smtpload_binary: Path
) -> None:
    """Its supervisor begins it again; who comes meanwhile waits in the sockets that it keeps."""
    config = _configuration(tmp_path, forwarding="relay")
    program = Program(tmp_path)
    with _farm(tmp_path, smtpload_binary) as networks, supervisor(tmp_path) as systemd:
        before = [*systemd.before(), str(program.file)]
        with kernel_rig(networks, tmp_path, config, before) as rig:
            systemd.until(lambda said: "READY=1" in said)
            old = rig.client()
            old.expect("220")
            main = _upgrade(rig.balancer)
            systemd.until(lambda said: f"MAINPID={main}" in said)
            old.expect("250", "NOOP")
            os.kill(main, signal.SIGKILL)
            until(lambda: not _lives(main), "it to be gone")
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
