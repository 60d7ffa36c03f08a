"""What systemd is told, by a stand-in for its socket."""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mailweir.supervisor import Supervisor

# How many datagrams wait for whoever is to read them.
_QUEUE = Path("/proc/sys/net/unix/max_dgram_qlen")


@contextmanager
def listening(path: str) -> Iterator[socket.socket]:
    """systemd's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.settimeout(10)
        heard.bind(path)
        yield heard


def test_each_word_is_one_datagram(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with listening(path) as heard:
        supervisor = Supervisor({"NOTIFY_SOCKET": path})
        supervisor.ready("1 listener,\nREADY=0")
        assert heard.recv(4096) == b"READY=1\nSTATUS=1 listener, READY=0\n"
        supervisor.reloading()
        reloading = heard.recv(4096).split(b"\n")
        assert reloading[0] == b"RELOADING=1"
        assert int(reloading[1].removeprefix(b"MONOTONIC_USEC=")) > 0
        supervisor.stopping("draining")
        assert heard.recv(4096) == b"STOPPING=1\nSTATUS=draining\n"
        supervisor.extend(30)
        assert heard.recv(4096) == b"EXTEND_TIMEOUT_USEC=30000000\n"


def test_the_next_process_is_told_of_to_one_that_is_busy(tmp_path: Path) -> None:
    path, most = str(tmp_path / "notify"), int(_QUEUE.read_text())
    with listening(path) as heard:
        supervisor = Supervisor({"NOTIFY_SOCKET": path})
        for _ in range(most + 5):
            supervisor.extend(30)  # some of it is lost
        telling = threading.Thread(target=supervisor.hand_on, args=(7,))
        telling.start()
        while heard.recv(4096) != b"MAINPID=7\n":
            pass
        telling.join()
        assert not supervisor.is_there


def test_many_sockets_wait_for_a_supervisor_that_is_busy(tmp_path: Path) -> None:
    path, most = str(tmp_path / "notify"), int(_QUEUE.read_text())
    with listening(path) as heard, ExitStack() as exits:
        store = Supervisor({"NOTIFY_SOCKET": path}).store
        listeners = [exits.enter_context(_listener()) for _ in range(most + 5)]
        telling = threading.Thread(target=store.keep, args=([one.dup() for one in listeners],))
        telling.start()
        # Long enough for the queue to be full, less than it is waited for.
        telling.join(0.3)
        names = set()
        for _ in listeners:
            data, descriptors, _, _ = socket.recv_fds(heard, 4096, 1)
            os.close(descriptors[0])
            names.add(data)
        telling.join()
    assert len(names) == len(listeners)


def _listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


async def test_life_is_shown_while_something_moves(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with listening(path) as heard:
        heard.setblocking(False)
        supervisor = Supervisor({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "20000"})
        lags = [0.5, 0.001]
        living = asyncio.create_task(supervisor.show_life(lambda: lags))
        async with asyncio.timeout(10):
            for _ in range(3):
                said = await asyncio.get_running_loop().sock_recv(heard, 4096)
                assert said == b"WATCHDOG=1\n"
        living.cancel()
    await Supervisor({}).show_life(lambda: lags)


async def test_nothing_is_shown_where_nothing_moves(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with listening(path) as heard:
        heard.setblocking(False)
        supervisor = Supervisor({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000"})
        lags = [0.5, 0.6]
        looks, looked_often = 0, asyncio.Event()

        def stuck() -> list[float]:
            nonlocal looks
            looks += 1
            if looks == 3:
                looked_often.set()
            return lags

        living = asyncio.create_task(supervisor.show_life(stuck))
        async with asyncio.timeout(10):
            await looked_often.wait()
        living.cancel()
        with pytest.raises(BlockingIOError):
            heard.recv(4096)


def test_an_abstract_socket() -> None:
    name = f"mailweir-test-{os.getpid()}"
    with listening(f"\0{name}") as heard:
        Supervisor({"NOTIFY_SOCKET": f"@{name}"}).extend(1)
        assert heard.recv(4096) == b"EXTEND_TIMEOUT_USEC=1000000\n"


def test_nobody_is_told_where_nobody_listens(tmp_path: Path) -> None:
    Supervisor({}).ready("")
    Supervisor({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("")


@pytest.mark.parametrize(
    ("environment", "patience"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "1500000"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
    ],
)
def test_patience_is_for_us_alone(environment: dict[str, str], patience: float | None) -> None:
    environment["NOTIFY_SOCKET"] = "/n"
    assert Supervisor(environment).patience == patience
    assert environment == {}
