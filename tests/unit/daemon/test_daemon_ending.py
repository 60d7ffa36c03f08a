"""How the running process ends."""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

import pytest
from msgspec import structs

from mailweir import changes
from mailweir.daemon import Daemon
from mailweir.journal import Journal
from mailweir.supervisor import Supervisor
from unit import figures
from unit.daemon.running import serving, until, write
from unit.fakes import FakePlane


async def test_a_term_while_first_checks_are_waited_for(
    tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(changes, "first_checks", wait)
    file, plane = tmp_path / "f.yaml", FakePlane()
    write(file, servers)
    daemon = Daemon(
        file,
        version="1",
        journal=Journal(),
        supervisor=Supervisor({}),
        start_plane=lambda *_: plane,
    )
    task = asyncio.create_task(daemon.run())
    await until((tmp_path / "admin.sock").exists)
    signal.raise_signal(signal.SIGTERM)
    async with asyncio.timeout(5):
        await task
    assert plane.stopped
    assert plane.applied == []


async def test_an_upgrade_without_a_next_process(
    tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """USR2, or a command: the old one goes on, and says why."""
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "gone"), "run"])
    async with serving(tmp_path, servers) as running:
        signal.raise_signal(signal.SIGUSR2)
        await until(lambda: running.logged("the upgrade failed"))
        outcome = await running.balancer.upgrade()
        assert not outcome.ok
        assert "can't be run" in outcome.message
        assert (await running.balancer.reload()).ok


async def test_term_drains_until_sessions_end(tmp_path: Path, servers: dict[str, str]) -> None:
    async with serving(tmp_path, servers) as running:
        running.plane.active = 2
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: running.logged("draining"))
        assert running.plane.draining
        assert not running.plane.stopped
        refused = await running.balancer.reload()
        assert refused.message == "the process is ending; nothing is reloaded any more"
        signal.raise_signal(signal.SIGHUP)
        await until(lambda: running.logged("HUP ignored"))
        running.plane.active = 0
        await running.task
        assert running.logged("stopping, every session has ended")


async def test_a_second_term_ends_whatever_hangs(
    tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, hangs = list[int](), threading.Event()
    monkeypatch.setattr("mailweir.daemon._LAST_RESORT", 0.05)

    def end(code: int) -> None:
        ended.append(code)
        hangs.set()

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(FakePlane, "drain", lambda *_, **__: hangs.wait(10))
    async with serving(tmp_path, servers) as running:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        await running.task
    assert ended == [1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_term_is_now(
    tmp_path: Path, servers: dict[str, str], number: signal.Signals
) -> None:
    async with serving(tmp_path, servers) as running:
        running.plane.active = 2
        signal.raise_signal(number)
        await until(lambda: running.logged("draining"))
        signal.raise_signal(number)
        await running.task
        assert running.logged("stopping with open sessions")[0]["reason"] == "told twice"


async def test_the_deadline_ends_the_drain(tmp_path: Path, servers: dict[str, str]) -> None:
    async with serving(tmp_path, servers, "drain: {deadline: 100ms}") as running:
        running.plane.active = 2
        signal.raise_signal(signal.SIGTERM)
        await running.task
        assert running.logged("stopping with open sessions")[0]["reason"] == "deadline reached"


async def test_sessions_in_the_kernel_are_none_that_end(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    async with serving(tmp_path, servers, "drain: {deadline: 100ms}") as running:
        running.plane.active = 9
        running.plane.kernel_path = structs.replace(figures.KERNEL_PATH, flows=7)
        signal.raise_signal(signal.SIGTERM)
        await running.task
        (told,) = running.logged("stopping with open sessions")
        assert (told["sessions"], told["in_kernel"]) == (2, 7)


async def test_what_is_left_in_the_kernel_goes_on(tmp_path: Path, servers: dict[str, str]) -> None:
    async with serving(tmp_path, servers, "drain: {deadline: 100ms}") as running:
        running.plane.active = 7
        running.plane.kernel_path = structs.replace(figures.KERNEL_PATH, flows=7)
        signal.raise_signal(signal.SIGTERM)
        await running.task
        event = "stopping; sessions in the kernel go on for the next process"
        assert running.logged(event)[0]["sessions"] == 7
