"""Who asked: the user as the kernel knows him, and who that is believed to be."""

import asyncio
import os
import pwd
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request

from mailweir.admin import client, credentials
from mailweir.admin.access import Access
from mailweir.admin.client import SUDO_HEADER
from mailweir.config.roles import Roles

Login = Callable[[int], object]

ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Login:
    """Has the kernel say whose login the process is of that asks: of this one. Until it is called
    the kernel knows nothing of logins.
    """
    monkeypatch.setattr(credentials, "_PROC", tmp_path)
    folder = tmp_path / str(os.getpid())
    folder.mkdir()
    return lambda uid: (folder / "loginuid").write_text(str(uid))


@pytest.fixture
def ours() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        yield ours


async def speaker(ours: socket.socket, sudo: str | None = None) -> tuple[str, str]:
    """Who asks, and who that is believed to be."""
    transport = Mock(get_extra_info=lambda name, _=None: {"socket": ours}.get(name))
    headers = {} if sudo is None else {SUDO_HEADER: sudo}
    request = make_mocked_request("POST", "/", headers=headers, transport=transport)
    found = await Access(Roles()).speaker_at(request)
    return found.name, found.behind


async def test_who_logged_in_is_behind_root(login: Login, ours: socket.socket) -> None:
    login(1)
    assert await speaker(ours) == (ME, "login: daemon")
    # The kernel's word stands above the command's.
    assert await speaker(ours, "alice") == (ME, "login: daemon")
    login(os.geteuid())
    assert await speaker(ours, "alice") == (ME, "")
    login(4242424242)
    assert await speaker(ours) == (ME, "login: uid 4242424242")


async def test_else_it_is_whom_sudo_began_the_command_for(
    login: Login, ours: socket.socket
) -> None:
    assert await speaker(ours, "alice") == (ME, "sudo: alice")
    login(2**32 - 1)  # nobody's
    assert await speaker(ours, "alice") == (ME, "sudo: alice")
    assert await speaker(ours, ME) == (ME, "")
    assert await speaker(ours) == (ME, "")
    assert await speaker(ours, "x" * 1000) == (ME, f"sudo: {'x' * 64}...")


async def test_of_others_nothing_but_the_user_is_believed(
    login: Login, ours: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    login(1)
    monkeypatch.setattr("mailweir.admin.access.uid_at", lambda _: os.geteuid() + 1)
    name, behind = await speaker(ours, "alice")
    assert (name != ME, behind) == (True, "")


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("alice", "alice"),
        (r"FARM\alice", r"FARM\alice"),
        ("", None),
        ("a\r\nHost: evil", None),
        ("a b", None),
        ("ü", None),
        ("x" * 65, None),
    ],
)
async def test_what_a_command_says_of_sudo(
    user: str, said: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heads = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n{}")
        writer.close()

    monkeypatch.setenv("SUDO_USER", user)
    path = tmp_path / "s"
    async with await asyncio.start_unix_server(answer, path):
        assert await asyncio.to_thread(client.ask, str(path), "GET", "/") == {}
    (head,) = heads
    lines = [line.partition(": ") for line in head.decode().splitlines()]
    assert [name for name, _, _ in lines].count("Host") == 1
    assert {name: value for name, _, value in lines}.get(SUDO_HEADER) == said
