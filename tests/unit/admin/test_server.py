"""The admin socket: its mode, what is left of the dead, who is left alone. And its client."""

import asyncio
import os
import socket
import stat
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from prometheus_client import CollectorRegistry

from mailweir.admin import routes
from mailweir.admin.client import ask
from mailweir.admin.guard import Hosts
from mailweir.admin.place import bind_unix
from mailweir.admin.server import AdminServer
from mailweir.config.address import parse_bind
from mailweir.config.roles import Roles
from mailweir.errors import MailweirError, NotRunningError, StartError
from mailweir.faults import Faults
from mailweir.journal import Journal
from unit.admin.situations import FakeBalancer

NOBODY = 65534


def test_others_may_not_even_ask(tmp_path: Path) -> None:
    path = tmp_path / "new" / "admin.sock"
    before = os.umask(0o022)
    os.umask(before)
    with bind_unix(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755 & ~before
    after = os.umask(before)
    assert after == before


def test_what_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    bind_unix(path).close()
    assert path.exists()
    bind_unix(path).close()


def test_a_socket_that_answers_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with bind_unix(path), pytest.raises(StartError, match="another process answers"):
        bind_unix(path)


def test_a_file_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.write_text("precious")
    with pytest.raises(StartError, match="isn't a socket; remove it"):
        bind_unix(path)
    assert path.read_text() == "precious"


def admin_server(path: Path, http: str) -> AdminServer:
    """That of `mailweir run`."""
    hosts = Hosts("lb1", [])
    return AdminServer(path, parse_bind(http), Roles(), hosts, part="admin", faults=Faults())


async def opened(server: AdminServer) -> None:
    """It answers as that of `mailweir run` does."""
    registry = CollectorRegistry()
    answers = routes.answers(FakeBalancer(), registry, Journal())
    await server.open(answers, registry)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=r"admin.socket: .*/file can't be made: "):
        bind_unix(tmp_path / "file" / "admin.sock")


async def test_both_sites_answer_and_go(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    server = admin_server(path, "127.0.0.1:0")
    await opened(server)
    answer = await asyncio.to_thread(ask, str(path), "GET", "/api/v1/status")
    assert answer["pid"] == 42
    answer = await asyncio.to_thread(ask, str(path), "POST", "/api/v1/reload")
    assert answer["message"] == "nothing changed"
    with pytest.raises(MailweirError, match="no usable answer"):
        await asyncio.to_thread(ask, str(path), "GET", "/none")
    await server.close()
    assert not path.exists()


async def test_http_of_ipv6_leaves_ipv4_alone(tmp_path: Path) -> None:
    server = admin_server(tmp_path / "admin.sock", "[::]:0")
    await opened(server)
    (bound,) = server._tcp.values()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", bound.getsockname()[1]), 5)
    await server.close()


async def test_http_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        http = f"127.0.0.1:{taken.getsockname()[1]}"
        server = admin_server(tmp_path / "admin.sock", http)
        with pytest.raises(
            StartError, match=rf"admin.http: {http} can't be bound: Address already"
        ):
            await opened(server)
        await server.close()


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match="isn't running"):
        ask(str(tmp_path / "none.sock"), "GET", "/")
    path = tmp_path / "stale.sock"
    bind_unix(path).close()
    with pytest.raises(NotRunningError, match="isn't running"):
        ask(str(path), "GET", "/")


def test_not_allowed() -> None:
    # Not in tmp_path, which root alone may enter: the socket itself has to refuse.
    with TemporaryDirectory() as folder, ExitStack() as exits:
        Path(folder).chmod(0o755)
        path = Path(folder, "admin.sock")
        exits.enter_context(bind_unix(path))
        path.chmod(0)
        if os.geteuid() == 0:
            os.seteuid(NOBODY)
            exits.callback(os.seteuid, 0)
        with pytest.raises(MailweirError, match="permission denied"):
            ask(str(path), "GET", "/")
