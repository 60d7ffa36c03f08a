"""The next process, as this one sees it: a script in its place."""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mailweir.errors import UpgradeError
from mailweir.lanes import Lane
from mailweir.upgrade import successor
from mailweir.upgrade.channel import Go
from mailweir.upgrade.successor import Heritage, Successor, command

Begin = Callable[[str], None]
_READS = """\
import json, os, socket, sys
heritage = json.loads(os.environ["MAILWEIR_INHERITANCE"])
channel = socket.socket(fileno=heritage["channel"])
say = lambda **words: channel.sendall(json.dumps(words).encode() + b"\\n")
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Begin:
    """Has this be what is begun."""

    def write(text: str) -> None:
        file = tmp_path / "mailweir"
        file.write_text(f"#!{sys.executable}\n{_READS}{text}")
        file.chmod(0o755)
        monkeypatch.setattr(sys, "argv", [str(file), "run"])

    return write


async def _begun(lock: int = 0) -> Successor:
    listening = [socket.create_server(("127.0.0.1", 0))]
    heritage = Heritage(lock=lock, listening=listening, admin={"/x": lock}, stored=["name"])
    begun = await Successor.start(heritage, {"NOTIFY_SOCKET": "/n"}, Lane("upgrade"))
    assert listening[0].fileno() == -1
    return begun


async def test_it_gets_what_it_is_to_have(program: Begin) -> None:
    program("""
one = socket.socket(fileno=heritage["listening"][0])
assert one.getsockname()[0] == "127.0.0.1"
assert (heritage["admin"], heritage["stored"]) == ({"/x": heritage["lock"]}, ["name"])
os.fstat(heritage["lock"])
say(type="prepared", version=f"{os.environ['NOTIFY_SOCKET']} {sys.argv[1]} {heritage['pid']}")
assert json.loads(channel.recv(4096)) == {"type": "go", "overrides": "o", "role": "", "keeper": ""}
say(type="serves", admin=["/x"])
channel.recv(1)
""")
    read, write = os.pipe()
    begun = await _begun(read)
    await begun.prepared()
    assert begun.version == f"/n run {os.getpid()}"
    assert (await begun.serves(Go("o"))).admin == ("/x",)
    await begun.kill()
    os.close(read)
    os.close(write)


async def test_it_ends_too_early(program: Begin) -> None:
    program("sys.exit(78)")
    with pytest.raises(UpgradeError, match="it ended before it could read its configuration"):
        await (await _begun()).prepared()


async def test_it_has_only_so_long(program: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(successor, "_PREPARING", 0.2)
    program("channel.recv(1)")
    with pytest.raises(UpgradeError, match="didn't read its configuration within 0 s"):
        await (await _begun()).prepared()


async def test_there_is_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "gone"), "run"])
    with pytest.raises(UpgradeError, match="gone can't be run"):
        await _begun()


def test_the_program_is_found_anew() -> None:
    installed = ["/usr/bin/mailweir", "run", "-c", "f"]
    assert command(installed) == installed
    module = "/somewhere/mailweir/__main__.py"
    assert command([module, "run"]) == [sys.executable, "-m", "mailweir", "run"]
