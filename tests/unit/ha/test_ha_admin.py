"""The socket of `mailweir ha`: a role that is taken away is so for connections that are open."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.mailweir.admin_ends import User, connect_as, open_folder
from mailweir.config.load import Loaded, load
from mailweir.ha.admin import HaAdmin
from mailweir.ha.links import Links
from mailweir.ha.machine.facts import Command
from mailweir.ha.machine.inputs import Machine
from mailweir.ha.settings import settings_of
from mailweir.journal import Journal
from unit.ha.test_links import KEYS, pair

_OPERATOR = User("daemon")


class Node:
    """It obeys, and remembers."""

    def __init__(self) -> None:
        self.machine = Machine(settings_of(pair(), "a"), epoch=5, now=0.0)
        self.links = Links(pair(), "a", KEYS)
        self.not_kept = ""
        self.obeyed: list[Command] = []

    async def command(self, command: Command, *, force: bool = False) -> str:
        assert not force
        self.obeyed.append(command)
        return ""


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


def _loaded(folder: Path, **admin: Any) -> Loaded:
    file = folder / "mailweir.yaml"
    ends = {"a": "192.0.2.1:5405"}, {"a": "192.0.2.2:5405"}
    config = {
        "listeners": {"mx": {"bind": ["192.0.2.10:25"], "pool": "farm"}},
        "pools": {"farm": {"servers": {"x": {"address": "10.0.0.1:25", "proxy": "v2"}}}},
        "admin": {"http": "off", **admin},
        "ha": {
            "node": "a",
            "nodes": {node: {"links": links} for node, links in zip("ab", ends, strict=True)},
            "virtual": [{"address": "192.0.2.10/24", "dev": "eth0"}],
            "keys": {1: "/etc/mailweir/ha.key"},
            "socket": str(folder / "ha.sock"),
            "http": "off",
        },
    }
    file.write_text(json.dumps(config))
    return load(file)


async def _asked(ends: tuple[asyncio.StreamReader, asyncio.StreamWriter], *said: str) -> list[int]:
    """The status of each request, over one connection."""
    reader, writer = ends
    found = []
    for line in said:
        writer.write(f"{line} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(one.partition(": ")[::2] for one in head.splitlines()[1:])
        await reader.readexactly(int(fields["Content-Length"]))
        found.append(int(head.split()[1]))
    return found


async def test_its_bugs_are_counted(folder: Path) -> None:
    admin = HaAdmin(Node(), _loaded(folder), Journal(), hostname="a")
    await admin.open()
    try:
        reader, writer = await asyncio.open_unix_connection(folder / "ha.sock")
        writer.write(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert b'\nmailweir_internal_errors_total{part="answer"} 0\n' in await reader.read()
        writer.close()
    finally:
        await admin.close()


async def test_operators_who_are_operators_no_more(folder: Path) -> None:
    node = Node()
    admin = HaAdmin(node, _loaded(folder, operators=["daemon"]), Journal(), hostname="a")
    await admin.open()
    try:
        ends = await asyncio.open_unix_connection(sock=connect_as(_OPERATOR, folder / "ha.sock"))
        maint, status = "POST /api/v1/maint", "GET /api/v1/status"
        assert await _asked(ends, maint, status) == [200, 200]
        await admin.take(_loaded(folder, operators=["bin"], readers=["daemon"]))
        assert await _asked(ends, maint, status) == [403, 200]
        await admin.take(_loaded(folder, operators=["bin"]))
        assert await _asked(ends, maint, status) == [403, 403]
        await admin.take(_loaded(folder))
        # Without roles the socket is its owner's and his group's.
        assert await _asked(ends, maint, status) == [403, 403]
        ends[1].close()
        with pytest.raises(PermissionError):
            connect_as(_OPERATOR, folder / "ha.sock")
        assert node.obeyed == [Command.MAINT]
    finally:
        await admin.close()
