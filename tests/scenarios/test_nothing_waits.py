"""Whatever mailweir has to wait for, commands are answered and TERM is heard within a second."""

import fcntl
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.machine.hanging import Hanging
from harness.mailweir.admin_ends import (
    User,
    ask,
    connect_as,
    connect_http,
    http_port,
    open_folder,
    reset,
)
from harness.mailweir.promptness import MOST, commands, end
from harness.mailweir.run import COMMAND, Mailweir, Tree, configuration, run_to_end, write
from harness.process import running
from harness.scale import count
from harness.servers.scripted import Stream, serving
from harness.waiting import until
from scenarios.conftest import Start

_FAST = {"every": "200ms", "fast": "100ms", "rise": 1, "fall": 1}
_STRANGERS = ("daemon", "bin", "sys", "sync", "games", "man")
_SCRAPES = count(300, 1000)
Counted = Callable[[str], None]

# What hangs until it is given up costs little meanwhile: these tests run beside others.
_alone = pytest.mark.alone("measures what a flood, or what hangs, costs others")


@pytest.fixture
def server() -> Iterator[str]:
    with serving(_greet) as address:
        yield address


@_alone
def test_a_log_that_nobody_reads(
    tmp_path: Path, start: Start, server: str, counted: Counted
) -> None:
    fifo = tmp_path / "stderr"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with ExitStack() as exits:
        exits.callback(os.close, reader)
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
        config = configuration(tmp_path, {"a": server}, check=_FAST, log={"sessions": "stderr"})
        balancer = start(config, ["sh", "-c", 'exec "$@" 2>"$0"', fifo])
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        # Lines of sessions and of operators' words: more than the pipe takes and may wait.
        for _ in range(20):
            _session(balancer)
        path = tmp_path / "admin.sock"
        commands(path, "farm/a", number=60)
        prompt = commands(path, "farm/a", number=1800)
        assert balancer.status()["stderr"]["dropped"] > 0
        assert "nobody read" in balancer.command("status").stdout
        _tell(counted, prompt, end(balancer))


@_alone
def test_a_new_pool_that_is_silent(
    tmp_path: Path, start: Start, server: str, counted: Counted
) -> None:
    with ExitStack() as exits:
        silent = exits.enter_context(serving(_say_nothing))
        dies = ExitStack()
        dying = dies.enter_context(serving(_greet))
        config = configuration(tmp_path, {"a": server, "dying": dying}, check=_FAST)
        config["pools"]["farm"]["panic"] = "0%"
        balancer = start(config)
        until(lambda: balancer.server_is("dying", "up"), "the servers to be up")
        config["pools"]["new"] = {
            "servers": {"s": {"address": silent, "proxy": "off"}},
            "check": {"kind": "ehlo"},
        }
        balancer.write(config)
        balancer.reload_by_signal()
        begun = time.monotonic()
        dies.close()
        until(lambda: balancer.server_is("dying", "down"), "the dead server to be found")
        found = time.monotonic() - begun
        prompt = commands(tmp_path / "admin.sock", "farm/a")
        # It is waited for still.
        assert balancer.status()["generation"] == 1
        counted(f"a dead server of another pool was out of use after {found * 1000:.0f} ms")
        assert found < 2 * MOST
        _tell(counted, prompt, end(balancer))


@_alone
def test_a_first_pool_that_is_silent(tmp_path: Path, counted: Counted) -> None:
    with (
        serving(_say_nothing) as silent,
        _started(tmp_path, configuration(tmp_path, {"a": silent})) as balancer,
    ):
        # The listeners aren't open: its first check is waited for.
        assert balancer.status()["listeners"] == []
        prompt = commands(tmp_path / "admin.sock", "farm/a")
        assert balancer.status()["listeners"] == []
        _tell(counted, prompt, end(balancer))


@_alone
@pytest.mark.needs("clang")
def test_names_that_nobody_tells(
    tmp_path: Path, start: Start, server: str, counted: Counted
) -> None:
    with open_folder() as folder, ExitStack() as exits:
        path, hanging = folder / "admin.sock", Hanging(tmp_path)
        exits.callback(hanging.end)
        config = configuration(tmp_path, {"a": server}, check=_FAST)
        config["admin"] = {"socket": str(path), "http": "off", "operators": ["mail"]}
        balancer = start(config, hanging.before())
        hanging.begin()
        for name in _STRANGERS * 3:
            stream = exits.enter_context(connect_as(User(name), path))
            stream.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        prompt = commands(path, "farm/a")
        answer = ask(connect_as(User("backup"), path), "GET", "/healthz")
        assert answer.status == 403
        assert "you are uid 34" in answer.body.decode()
        _tell(counted, prompt, end(balancer))


@_alone
def test_scrapes_that_are_given_up(
    tmp_path: Path, start: Start, server: str, counted: Counted
) -> None:
    pools = {
        f"p{pool}": {"servers": {f"s{n}": f"127.9.{pool}.{n + 1}:9" for n in range(50)}}
        for pool in range(20)
    }
    config = configuration(tmp_path, {"a": server}, check=_FAST)
    config["admin"]["http"] = "127.0.0.1:0"
    config["pools"] |= pools
    balancer = start(config)
    port = http_port(balancer)

    def give_up(times: int = _SCRAPES // 60 + 1) -> None:
        for _ in range(times):
            stream = connect_http(port)
            stream.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            reset(stream)

    prompt = commands(tmp_path / "admin.sock", "farm/a", between=give_up)
    _tell(counted, prompt, end(balancer))


@_alone
@pytest.mark.needs("clang")
def test_a_state_folder_that_hangs(
    tmp_path: Path, start: Start, server: str, counted: Counted
) -> None:
    hanging = Hanging(tmp_path, tmp_path / "state")
    balancer = start(configuration(tmp_path, {"a": server}, check=_FAST), hanging.before())
    hanging.begin()
    said = balancer.command("drain", "farm/a")
    assert said.returncode == 0
    assert "overrides.json isn't written yet: its disk takes long" in said.stderr
    assert balancer.server_is("a", "drain")
    assert "NOT KEPT FOR A RESTART" in balancer.command("status").stdout
    prompt = commands(tmp_path / "admin.sock", "farm/a", number=12)
    hanging.end()
    until(lambda: not balancer.status()["operator"]["not_kept"], "the disk to be well again")
    assert "overrides.json" not in balancer.command("drain", "farm/a").stderr
    hanging.begin()
    balancer.command("ready", "farm/a")
    _tell(counted, prompt, end(balancer))


@pytest.mark.needs("clang")
def test_a_file_that_hangs_costs_a_reload_alone(
    tmp_path: Path, start: Start, counted: Counted
) -> None:
    hanging = Hanging(tmp_path, tmp_path / "nfs")
    (tmp_path / "nfs").mkdir()
    (tmp_path / "nfs" / "drop.txt").write_text("192.0.2.0/24\n")
    dies = ExitStack()
    server = dies.enter_context(serving(_greet))
    config = configuration(tmp_path, {"a": server}, check=_FAST)
    config["pools"]["farm"]["panic"] = "0%"
    config["listeners"]["mx"]["deny"] = [str(tmp_path / "nfs" / "drop.txt")]
    balancer = start(config, hanging.before())
    hanging.begin()
    balancer.reload_by_signal()
    prompt = commands(tmp_path / "admin.sock", "farm/a")
    dies.close()
    until(lambda: balancer.server_is("a", "down"), "checks to be acted on")
    until(lambda: not _last_load(balancer)["ok"], "the reload to be refused")
    assert _last_load(balancer)["message"] == (
        f"{balancer.file} takes longer than 10 s to read: {tmp_path}/nfs/drop.txt is still waited"
        " for"
    )
    hanging.end()
    assert balancer.command("reload").returncode == 0
    hanging.begin()
    balancer.reload_by_signal()
    _tell(counted, prompt, end(balancer))


@pytest.mark.needs("clang")
def test_a_session_log_that_hangs_costs_a_reload_alone(
    tmp_path: Path, start: Start, server: str, counted: Counted
) -> None:
    (tmp_path / "nfs").mkdir()
    hanging = Hanging(tmp_path, tmp_path / "nfs")
    config = configuration(tmp_path, {"a": server}, check=_FAST)
    balancer = start(config, hanging.before())
    hanging.begin()
    balancer.write(config | {"log": {"sessions": str(tmp_path / "nfs" / "sessions.log")}})
    balancer.reload_by_signal()
    prompt = commands(tmp_path / "admin.sock", "farm/a")
    until(lambda: not _last_load(balancer)["ok"], "the reload to be refused")
    assert f"{tmp_path}/nfs/sessions.log is still waited for" in _last_load(balancer)["message"]
    _tell(counted, prompt, end(balancer))


@_alone
def test_a_start_that_hangs_is_ended(tmp_path: Path, counted: Counted) -> None:
    fifo = tmp_path / "mailweir.yaml"
    os.mkfifo(fifo)
    with running([*COMMAND, "run", "-c", fifo], tmp_path, "mailweir") as process:
        until(lambda: _hears(process.pid, signal.SIGTERM), "its signals to be heard")
        begun = time.monotonic()
        process.send(signal.SIGTERM)
        assert process.wait() == 0
        took = time.monotonic() - begun
    counted(f"TERM while the configuration is read: {took * 1000:.0f} ms")
    assert took < MOST


@_alone
@pytest.mark.parametrize("what", ["/proc/kmsg", "fifo"])
def test_what_is_no_file_is_told_at_once(tmp_path: Path, what: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    config = configuration(tmp_path, {"a": "127.0.0.1:9"}, include=[str(tmp_path / what)])
    file = tmp_path / "mailweir.yaml"
    write(file, config)
    begun = time.monotonic()
    ended = run_to_end(file)
    assert time.monotonic() - begun < 10
    assert ended.returncode == 78
    assert str(tmp_path / what) in ended.stderr


@contextmanager
def _started(tmp_path: Path, config: Tree) -> Iterator[Mailweir]:
    """One that answers at its admin socket, whether its listeners are open or not."""
    file, path = tmp_path / "mailweir.yaml", Path(config["admin"]["socket"])
    write(file, config)
    with running([*COMMAND, "run", "-c", file], tmp_path, "mailweir") as process:
        process.until(path.exists, "the admin socket")
        yield Mailweir(process, file, path)


def _hears(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    caught = re.search(r"^SigCgt:\t(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.M)
    return caught is not None and bool(int(caught[1], 16) & (1 << (number - 1)))


def _tell(counted: Counted, of_commands: float, of_end: float) -> None:
    counted(f"p99 of commands {of_commands * 1000:.0f} ms, TERM {of_end * 1000:.0f} ms")
    assert of_commands < MOST
    assert of_end < MOST


def _last_load(balancer: Mailweir) -> Tree:
    load: Tree = balancer.status()["config"]["last_load"]
    return load


def _session(balancer: Mailweir) -> None:
    with Client(balancer.address()) as client:
        client.expect("220")
        client.expect("221", "QUIT")


def _say_nothing(stream: Stream) -> None:
    stream.rest()


def _greet(stream: Stream) -> None:
    stream.send(b"220 mx\r\n")
    while line := stream.line():
        stream.send(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 mx\r\n")
