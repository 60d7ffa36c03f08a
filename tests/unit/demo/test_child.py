"""The child process: what it is given, how it comes up, fails and ends. Others stand in for it."""

import asyncio
import sys
from pathlib import Path

import pytest
from aiohttp import web

from mailweir.config.load import load
from mailweir.demo import child as module
from mailweir.demo.child import Child
from mailweir.errors import MailweirError, StartError
from unit.fakes import STRANGERS

SERVERS = {"swift": 2501, "flaky": 2502}


def playing(folder: Path, code: str) -> Child:
    """A balancer whose child runs `code` instead."""
    return Child(folder, SERVERS, command=(sys.executable, "-c", code))


async def answering(child: Child, answers: dict[str, object]) -> web.AppRunner:
    """An admin socket that gives these answers by route."""
    app = web.Application()
    for route, answer in answers.items():

        async def handle(_: web.Request, answer: object = answer) -> web.Response:
            return web.json_response(answer)

        app.router.add_get(route, handle)
    # Otherwise it waits a minute for connections that somebody keeps.
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.UnixSite(runner, str(child.socket)).start()
    return runner


def test_the_configuration_is_a_good_one(tmp_path: Path) -> None:
    folder = tmp_path / "it's {odd}, #1"
    folder.mkdir()
    child = Child(folder, SERVERS)
    child.file.write_text(child.config)
    loaded = load(child.file)
    # It ends soon, whatever its sessions are at.
    drain, strangers = loaded.warnings
    assert drain.path == "drain.deadline"
    assert strangers.message == f"{', '.join(SERVERS)} {STRANGERS}"
    admin, pool = loaded.config.admin, loaded.config.pools["farm"]
    assert (admin.socket, loaded.config.state_dir) == (child.socket, folder)
    assert str(admin.http) == f"127.0.0.1:{child.http_port}"
    assert [str(a) for a in loaded.config.listeners["mx"].bind] == [f"127.0.0.1:{child.smtp_port}"]
    assert {name: server.address.port for name, server in pool.servers.items()} == SERVERS


async def test_it_is_ready_when_it_says_so(tmp_path: Path) -> None:
    child = playing(tmp_path, "import time; time.sleep(60)")
    await child.start()
    answers = {"/api/v1/status": {"ready": True}, "/api/v1/servers": {"servers": [{"name": "x"}]}}
    runner = await answering(child, answers)
    await child.ready()
    assert await child.servers() == [{"name": "x"}]
    await runner.cleanup()
    await child.stop()
    await child.stop()


async def test_what_a_child_that_fails_said_is_shown(tmp_path: Path) -> None:
    child = playing(tmp_path, "import sys; print(sys.argv[1:], flush=True); sys.exit('no memory')")
    await child.start()
    with pytest.raises(StartError) as caught:
        await child.ready()
    assert str(caught.value) == (
        "the balancer ended with exit code 1; it said:\n"
        f"['run', '-c', '{tmp_path}/mailweir.yaml']\nno memory"
    )


async def test_a_child_that_ends_later_is_noticed(tmp_path: Path) -> None:
    child = playing(tmp_path, "")
    await child.start()
    with pytest.raises(StartError, match=r"ended with exit code 0; it said nothing"):
        await child.servers()


async def test_a_child_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_START", 0.2)
    monkeypatch.setattr(module, "_NOTICE", 0.1)
    child = playing(tmp_path, "import time; time.sleep(60)")
    await child.start()
    runner = await answering(child, {"/api/v1/status": {"ready": False}})
    with pytest.raises(StartError, match="isn't ready after 0 s; it said nothing"):
        await child.ready()
    await runner.cleanup()
    with pytest.raises(MailweirError, match="nobody answers"):
        await child.servers()
    await child.stop()


async def test_a_child_that_ignores_term_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_END", 0.1)
    deaf = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[3]).with_name("deaf").touch()
time.sleep(60)
"""
    child = playing(tmp_path, deaf)
    await child.start()
    async with asyncio.timeout(10):
        while not (tmp_path / "deaf").exists():  # noqa: ASYNC110 - a process, not a task
            await asyncio.sleep(0.01)
    await child.stop()
    with pytest.raises(StartError, match="exit code -9"):
        await child.ready()
