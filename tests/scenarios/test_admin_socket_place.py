"""The admin socket in the file system: made again where it was removed, nobody else's touched, and
root gets in whoever else is at the door.
"""

import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from harness.mailweir.admin_ends import User, command_as, open_folder
from harness.mailweir.promptness import MOST, commands
from harness.mailweir.run import configuration, mailweir
from harness.process import running
from harness.servers.scripted import Stream, serving
from harness.waiting import until
from mailweir.admin.client import private_path
from scenarios.conftest import Start

_FAST = {"every": "500ms", "fast": "100ms", "rise": 1, "fall": 1}
# A thread that connects as often as it can, as whoever it is told to be.
_CROWD = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print("begun", flush=True)
while True:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.setblocking(False)
        try:
            stream.connect(sys.argv[1])
        except OSError:
            pass
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


def test_a_removed_socket_is_made_again(tmp_path: Path, start: Start) -> None:
    balancer = start(configuration(tmp_path, {"a": "127.0.0.1:9"}))
    path = tmp_path / "admin.sock"
    for one in (path, private_path(path)):
        one.unlink()
        until(one.exists, "the socket to be made again")
        until(partial(_answers, one), "an answer there")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert stat.S_IMODE(private_path(path).stat().st_mode) == 0o600
    assert "the admin socket was removed, and is made again" in balancer.process.err


def test_what_is_not_ours_is_left_alone(tmp_path: Path, start: Start) -> None:
    balancer = start(configuration(tmp_path, {"a": "127.0.0.1:9"}))
    path = tmp_path / "admin.sock"
    path.unlink()
    path.write_text("precious")
    # Root has the private one still.
    until(lambda: balancer.status()["admin"]["problem"], "it to be noticed")
    told = f"{path} is something else now; remove it, and the socket is made again"
    assert balancer.status()["admin"]["problem"] == told
    assert f"ADMIN SOCKET: {told}" in balancer.command("status").stdout
    path.unlink()
    until(lambda: not balancer.status()["admin"]["problem"], "it to be mended")
    path.unlink()
    path.write_text("precious")
    balancer.process.send(signal.SIGTERM)
    assert balancer.process.wait() == 0
    assert path.read_text() == "precious"
    assert not private_path(path).exists()


def test_a_crowd_keeps_root_out_of_nothing(
    folder: Path, tmp_path: Path, counted: Callable[[str], None]
) -> None:
    path = folder / "admin.sock"
    with serving(_greet) as server, ExitStack() as exits:
        config = configuration(tmp_path, {"a": server}, check=_FAST)
        config["admin"] = {"socket": str(path), "http": "off", "operators": ["daemon"]}
        balancer = exits.enter_context(mailweir(tmp_path, config))
        crowd = exits.enter_context(
            running([sys.executable, "-c", _CROWD, str(path)], tmp_path, "crowd")
        )
        crowd.until(lambda: crowd.out, "the crowd")
        took = commands(path, "farm/a", number=201)
        counted(f"201 commands of root beside a crowd: none failed, p99 {took * 1000:.0f} ms")
        assert took < MOST
        # An operator who isn't root has his turn as well.
        begun = time.monotonic()
        for _ in range(50):
            assert command_as(User("daemon"), path, "GET", "/api/v1/status")["ready"]
        took = (time.monotonic() - begun) / 50
        counted(f"50 of an operator: none failed, {took * 1000:.0f} ms each")
        assert balancer.status()["ready"]


def test_links_in_the_state_folder_are_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    state = tmp_path / "state"
    state.mkdir()
    (state / "overrides.new").symlink_to(precious)
    (state / "overrides.json").symlink_to(precious)
    with mailweir(tmp_path, configuration(tmp_path, {"a": "127.0.0.1:9"})) as balancer:
        assert "it is a symbolic link; it is now" in balancer.process.err
        assert "overrides.json" not in balancer.command("drain", "farm/a").stderr
        assert balancer.status()["operator"]["not_kept"] == ""
    assert precious.read_text() == "precious"
    (state / "lock").unlink()
    (state / "lock").symlink_to(precious)
    with running(
        [sys.executable, "-m", "mailweir", "run", "-c", tmp_path / "mailweir.yaml"],
        tmp_path,
        "second",
    ) as second:
        assert second.wait() == 1
        assert f"{state}/lock can't be written: it is a symbolic link; remove it" in second.err
    assert precious.read_text() == "precious"


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as stream:
        try:
            stream.connect(str(path))
        except OSError:
            return False
        return True


def _greet(stream: Stream) -> None:
    stream.send(b"220 mx\r\n")
    while line := stream.line():
        stream.send(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 mx\r\n")
