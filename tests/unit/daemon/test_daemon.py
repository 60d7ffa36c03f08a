"""The running process with a fake data plane: start, health, instances, faults."""

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import pytest

from mailweir.admin.answers import servers as servers_now
from mailweir.admin.answers.status import status
from mailweir.config.words import HaKeeper, HaRole
from mailweir.daemon import Daemon
from mailweir.errors import ConfigError, StartError
from mailweir.health import first
from mailweir.instance import only_instance
from mailweir.journal import Journal
from mailweir.operator import Operator
from mailweir.spec import ServerState
from mailweir.supervisor import Supervisor
from unit.daemon.running import serving, until, write
from unit.fakes import FakePlane
from unit.health.scripted import close, playing, say


async def test_listeners_open_with_servers_that_are_up(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    async with serving(tmp_path, servers) as running:
        assert len(running.plane.applied) == 1
        assert set(running.plane.applied[0].server_states().values()) == {ServerState.UP}
        assert running.logged("ready")
        assert running.balancer.situation().last_load.message == "1 listener, 1 pool, 2 servers"
    assert running.plane.draining


async def test_a_server_that_takes_too_long_is_not_waited_for(
    tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first, "FIRST_CHECKS", 0.1)
    monkeypatch.setattr(first, "FIRST_OF_POOLS", 0.2)
    with_silent = {**servers, "slow": "127.0.0.1:9"}

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("mailweir.health.probes.dialogue.connect", never)
    async with serving(tmp_path, with_silent) as running:
        assert set(running.plane.applied[0].server_states().values()) == {ServerState.DOWN}
        assert running.logged("not ready")[0]["reason"] == "pool farm: no server is up"


async def test_health_changes_states_and_nothing_else(tmp_path: Path) -> None:
    async with playing(say(b"220 mx\r\n")) as a, playing(close) as b:
        async with serving(tmp_path, {"a": str(a.address), "b": str(b.address)}) as running:
            assert running.states() == {"a": ServerState.UP, "b": ServerState.DOWN}
            entry = next(e for e in running.logged("server changed") if e["server"] == "farm/b")
            assert entry["change"] == "unknown -> down"
            assert entry["reason"] == "greeting: connection closed by the server"
            write(running.file, {"a": str(b.address), "b": str(a.address)})
            assert (await running.balancer.reload()).ok
            await until(lambda: running.states() == {"a": ServerState.DOWN, "b": ServerState.UP})
            assert len(running.plane.applied) == 2


async def test_a_bug_anywhere_in_the_loop_ends_nothing(
    tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, servers) as running:
        with monkeypatch.context() as patch:
            patch.setattr(Operator, "forget_those_over", lambda _: 1 / 0)
            signal.raise_signal(signal.SIGHUP)
            await until(lambda: running.balancer.situation().faults)
        assert (await running.balancer.reload()).ok


async def test_a_clock_that_is_set_back_makes_nothing_younger(
    tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, servers) as running:
        running.balancer.role.tell(HaRole.ACTIVE, HaKeeper.NATIVE)
        a_day_ago = time.time() - 86_400
        monkeypatch.setattr(time, "time", lambda: a_day_ago)
        now = running.balancer.situation()
        told = json.loads(json.dumps(status(now)))
        assert 0 <= told["uptime_seconds"] < 60
        assert 0 <= told["ha"]["age_seconds"] < 60
        for server in json.loads(json.dumps(servers_now.servers(now))):
            assert 0 <= server["check"]["age_seconds"] < 60


async def test_a_pair_is_told_of_apart(tmp_path: Path, servers: dict[str, str]) -> None:
    async with serving(tmp_path, servers) as running:
        digest = running.balancer.health().digest
        write(running.file, servers, "ha: {mode: external}")
        outcome = await running.balancer.reload()
        assert outcome.message == "ha changed: mailweir ha has to be told (HUP)"
        assert running.balancer.health().digest == digest
        write(running.file, servers, "drain: {deadline: 1h}")
        await running.balancer.reload()
        assert running.balancer.health().digest != digest


async def test_health_in_short(tmp_path: Path, servers: dict[str, str]) -> None:
    async with serving(tmp_path, servers) as running:
        found = running.balancer.health()
        assert (found.listening, found.ending, found.workers_alive) == (True, False, True)
        assert (found.servers, found.up, found.pools_down, found.reasons) == (2, 2, [], [])
        running.balancer.role.tell(HaRole.ACTIVE, HaKeeper.NATIVE)
        role = running.balancer.situation().role
        assert role
        assert role.role is HaRole.ACTIVE
        assert len(running.logged("high availability")) == 1
        running.plane.active = 1
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: running.balancer.health().ending)
        assert running.balancer.health().reasons == ["draining: no new sessions are taken"]


async def test_a_second_instance_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    write(file, {"a": "127.0.0.1:9"})
    with only_instance(tmp_path / "state"):
        second = Daemon(
            file,
            version="1",
            journal=Journal(),
            supervisor=Supervisor({}),
            start_plane=lambda *_: FakePlane(),
        )
        with pytest.raises(StartError, match=rf"pid {os.getpid()}"):
            await second.run()


async def test_a_start_that_fails_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    write(file, {"a": "127.0.0.1:9"}, "workers: 0")
    with pytest.raises(ConfigError, match="workers"):
        await Daemon(
            file,
            version="1",
            journal=Journal(),
            supervisor=Supervisor({}),
            start_plane=lambda *_: FakePlane(),
        ).run()
    write(file, {"a": "127.0.0.1:9"})
    (tmp_path / "admin.sock").write_text("in the way")
    plane = FakePlane()
    with pytest.raises(StartError, match="isn't a socket"):
        await Daemon(
            file,
            version="1",
            journal=Journal(),
            supervisor=Supervisor({}),
            start_plane=lambda *_: plane,
        ).run()
    assert plane.stopped


async def test_a_server_that_fails_sessions_is_looked_at(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    async with serving(tmp_path, servers) as running:
        running.plane.trouble("farm", "a")
        await until(lambda: not running.plane.troubles)


async def test_a_panic_of_the_data_plane_is_told(tmp_path: Path, servers: dict[str, str]) -> None:
    async with serving(tmp_path, servers) as running:
        running.plane.panic("a.rs:1:2, thread mailweir-0: bug")
        await until(lambda: running.balancer.situation().faults)
        (fault,) = running.balancer.situation().faults
        assert (fault.part, fault.times) == ("data_plane", 1)
        assert "a.rs:1:2, thread mailweir-0: bug" in fault.last


async def test_logs_are_opened_anew(tmp_path: Path, servers: dict[str, str]) -> None:
    async with serving(tmp_path, servers) as running:
        signal.raise_signal(signal.SIGUSR1)
        await until(lambda: running.plane.reopened == 1)
