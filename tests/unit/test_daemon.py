"""The running process with a fake data plane: start, signals, reloads, health, ending."""

import asyncio
import gc
import json
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from mailweir import changes
from mailweir import reload as module
from mailweir.admin import views
from mailweir.config.load import Loaded, load
from mailweir.config.machine import Machine
from mailweir.config.model import Config
from mailweir.config.reading import Reading
from mailweir.config.words import HaKeeper, HaRole
from mailweir.daemon import Daemon
from mailweir.errors import ConfigError, StartError
from mailweir.health import first
from mailweir.instance import only_instance
from mailweir.journal import Journal
from mailweir.operator import Operator, Speaker
from mailweir.reload import restart_needed
from mailweir.spec import ServerKey, ServerState
from mailweir.state import diff
from mailweir.state.overrides import Overrides
from mailweir.supervisor import Supervisor
from unit.fakes import MINIMAL, FakeKernelPathStats, FakePlane, FakeSession, loaded
from unit.health.scripted import close, playing, say

A = ServerKey("farm", "a")


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """As it was: a process that ends needs it no more."""
    yield
    gc.enable()
    gc.unfreeze()


@dataclass
class Running:
    """A daemon that serves, what it drives and what it logs."""

    daemon: Daemon
    plane: FakePlane
    file: Path
    task: "asyncio.Task[None]"
    logs: list[EventDict]

    def logged(self, event: str) -> list[EventDict]:
        return [entry for entry in self.logs if entry["event"].startswith(event)]

    def states(self) -> dict[str, ServerState]:
        return {key.server: state for key, state in self.plane.states.items()}


async def until(condition: Callable[[], object]) -> None:
    """Wait for what happens in other tasks and threads, at most 10 s."""
    async with asyncio.timeout(10):
        # What is waited for has no event of its own, part of it is in threads.
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def write(file: Path, servers: dict[str, str], extra: str = "") -> None:
    rows = "".join(
        f"      {name}: {{address: '{address}', proxy: off}}\n" for name, address in servers.items()
    )
    file.write_text(f"""\
admin: {{socket: {file.parent}/admin.sock, http: off}}
state_dir: {file.parent}/state
{extra}
listeners: {{mx: {{bind: ["127.0.0.1:25"], pool: farm}}}}
pools:
  farm:
    check: {{every: 100ms, fast: 100ms, rise: 1, fall: 1, timeout: 2s}}
    servers:
{rows}""")


@asynccontextmanager
async def serving(folder: Path, servers: dict[str, str], extra: str = "") -> AsyncIterator[Running]:
    file = folder / "f.yaml"
    write(file, servers, extra)
    plane = FakePlane()
    with capture_logs() as logs:
        daemon = Daemon(
            file,
            version="1.2.3",
            journal=Journal(),
            supervisor=Supervisor({}),
            start_plane=lambda *_: plane,
        )
        task = asyncio.create_task(daemon.run())
        running = Running(daemon, plane, file, task, logs)
        await until(lambda: running.logged("started") or task.done())
        try:
            yield running
        finally:
            if not task.done():
                plane.active = 0
                signal.raise_signal(signal.SIGTERM)
            await task
    assert plane.stopped
    assert not (folder / "admin.sock").exists()


@pytest.fixture
async def servers() -> AsyncIterator[dict[str, str]]:
    """Two servers that greet."""
    async with AsyncExitStack() as stack:
        found = {}
        for name in ("a", "b"):
            server = await stack.enter_async_context(playing(say(b"220 mx\r\n")))
            found[name] = str(server.address)
        yield found


async def test_listeners_open_with_servers_that_are_up(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    async with serving(tmp_path, servers) as running:
        assert len(running.plane.applied) == 1
        assert set(running.plane.applied[0].server_states().values()) == {ServerState.UP}
        assert running.logged("ready")
        assert running.daemon.situation().last_load.message == "1 listener, 1 pool, 2 servers"
    assert running.plane.draining


async def test_a_server_that_takes_too_long_is_not_waited_for(
    tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first, "FIRST_CHECKS", 0.1)
    monkeypatch.setattr(first, "FIRST_OF_POOLS", 0.2)
    with_silent = {**servers, "slow": "127.0.0.1:9"}

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("mailweir.health.probes.ehlo.connect", never)
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
            assert (await running.daemon.reload()).ok
            await until(lambda: running.states() == {"a": ServerState.DOWN, "b": ServerState.UP})
            assert len(running.plane.applied) == 2


async def test_hup_reloads(tmp_path: Path, servers: dict[str, str]) -> None:
    async with playing(say(b"220 mx\r\n")) as c, serving(tmp_path, servers) as running:
        write(running.file, {**servers, "c": str(c.address)})
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: running.logged("reloaded"))
        (entry,) = running.logged("reloaded")
        assert entry["generation"] == 2
        assert entry["change"] == f"pool farm: server c added ({c.address}, weight 100)"
        # Known before it is used: no session is refused for want of a first check.
        assert running.plane.applied[-1].server_states()[ServerKey("farm", "c")] is ServerState.UP


async def test_a_storm_of_hups_is_few_reloads(tmp_path: Path, servers: dict[str, str]) -> None:
    async with serving(tmp_path, servers) as running:
        for _ in range(100):
            signal.raise_signal(signal.SIGHUP)
        outcome = await running.daemon.reload()
        assert outcome.message == "nothing changed"
        assert 1 <= len(running.logged("reloaded")) <= 3
        assert len(running.plane.applied) == 1


async def test_the_generation_is_the_configuration_s(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    """Neither an operator's word nor a file that says the same makes another one."""
    async with serving(tmp_path, servers) as running:
        daemon = running.daemon
        said = await daemon.operate(_heavier, what="weight farm/a 7", by="root")
        assert said == ""
        assert len(running.plane.applied) == 2
        running.file.write_text(f"# The same.\n{running.file.read_text()}")
        assert (await daemon.reload()).generation == 1
        # What the data plane isn't told is a part of it too.
        text = running.file.read_text()
        running.file.write_text(text.replace("rise: 1", "rise: 9"))
        assert (await daemon.reload()).generation == 2
        running.file.write_text("listeners: {}\n")
        assert (await daemon.reload()).generation == 2
        assert daemon.situation().last_load.generation == daemon.health().generation == 2


def _heavier(operator: Operator, config: Config) -> None:
    operator.set_weight(ServerKey("farm", "a"), "7", Speaker("root"), config)


async def test_a_bad_file_changes_nothing(tmp_path: Path, servers: dict[str, str]) -> None:
    async with serving(tmp_path, servers) as running:
        running.file.write_text("listeners: {}\npools: 3\n")
        outcome = await running.daemon.reload()
        assert not outcome.ok
        assert outcome.problems == (
            f"{running.file}:1:12: listeners: must not be empty",
            f"{running.file}:2:8: pools: must be a mapping (`name: value` lines), not 3",
        )
        errors = [e for e in running.logged("configuration") if e["log_level"] == "error"]
        assert [e["problem"] for e in errors] == list(outcome.problems)
        assert len(running.plane.applied) == 1
        assert running.daemon.situation().last_load == outcome
        write(running.file, servers)
        assert (await running.daemon.reload()).ok


async def test_an_address_that_cannot_be_had_changes_nothing(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    async with serving(tmp_path, servers) as running:
        write(running.file, {**servers, "c": "127.0.0.1:9"})
        running.plane.refuse = "listener mx: 192.0.2.1:25: address in use"
        outcome = await running.daemon.reload()
        assert (outcome.ok, outcome.message) == (False, running.plane.refuse)
        assert sorted(running.states()) == ["a", "b"]
        running.plane.refuse = ""
        assert (await running.daemon.reload()).generation == 2


async def test_a_bug_in_a_reload_ends_nothing(
    tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, servers) as running:
        with monkeypatch.context() as patch:
            patch.setattr(diff, "describe", lambda *_: 1 / 0)
            outcome = await running.daemon.reload()
        assert outcome.message == "internal error: ZeroDivisionError('division by zero')"
        assert (await running.daemon.reload()).ok


async def test_a_bug_in_an_operators_change_leaves_the_old_state(
    tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def drain(operator: Operator, config: Config) -> None:
        operator.set_state(A, "drain", Speaker("root"), config)

    async with serving(tmp_path, servers) as running:
        with monkeypatch.context() as patch:
            patch.setattr(changes, "fold", lambda *_, **__: 1 / 0)
            said = await running.daemon.operate(drain, what="drain farm/a", by="root")
        assert said == (
            "internal error: ZeroDivisionError('division by zero'); nothing has changed"
        )
        assert running.daemon.situation().overrides == Overrides()
        (fault,) = running.daemon.situation().faults
        assert (fault.part, fault.times) == ("change", 1)
        assert len(running.logged("internal error")) == 1
        assert await running.daemon.operate(drain, what="drain farm/a", by="root") == ""
        assert running.plane.states[A] is ServerState.DRAIN
    assert (tmp_path / "state" / "overrides.json").exists()


async def test_a_bug_anywhere_in_the_loop_ends_nothing(
    tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, servers) as running:
        with monkeypatch.context() as patch:
            patch.setattr(Operator, "forget_those_over", lambda _: 1 / 0)
            signal.raise_signal(signal.SIGHUP)
            await until(lambda: running.daemon.situation().faults)
        assert (await running.daemon.reload()).ok


async def test_a_clock_that_is_set_back_makes_nothing_younger(
    tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, servers) as running:
        running.daemon.pair.tell(HaRole.ACTIVE, HaKeeper.NATIVE)
        a_day_ago = time.time() - 86_400
        monkeypatch.setattr(time, "time", lambda: a_day_ago)
        now = running.daemon.situation()
        told = json.loads(json.dumps(views.status(now)))
        assert 0 <= told["uptime_seconds"] < 60
        assert 0 <= told["ha"]["age_seconds"] < 60
        for server in json.loads(json.dumps(views.servers(now))):
            assert 0 <= server["check"]["age_seconds"] < 60


async def test_a_reload_does_not_hold_up_what_operators_say(
    tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def drain(operator: Operator, config: Config) -> None:
        operator.set_state(A, "drain", Speaker("root"), config)

    waited = asyncio.Event()

    async def wait(_: object) -> None:
        await waited.wait()

    async with playing(say(b"220 mx\r\n")) as c, serving(tmp_path, servers) as running:
        monkeypatch.setattr(changes, "first_checks", wait)
        write(running.file, {**servers, "c": str(c.address)})
        reloading = asyncio.create_task(running.daemon.reload())
        assert await running.daemon.operate(drain, what="drain farm/a", by="root") == ""
        assert running.plane.states[A] is ServerState.DRAIN
        assert not reloading.done()
        # It is checked by now, and not dropped by what was said meanwhile.
        await until(lambda: running.daemon.situation().last_check(ServerKey("farm", "c")))
        waited.set()
        assert (await reloading).ok
        assert running.plane.states[A] is ServerState.DRAIN
        assert running.plane.states[ServerKey("farm", "c")] is ServerState.UP


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


async def test_ignored_signals_say_why(tmp_path: Path, servers: dict[str, str]) -> None:
    async with serving(tmp_path, servers) as running:
        signal.raise_signal(signal.SIGUSR2)
        await until(lambda: running.logged("USR2 ignored"))


async def test_term_drains_until_sessions_end(tmp_path: Path, servers: dict[str, str]) -> None:
    async with serving(tmp_path, servers) as running:
        running.plane.active = 2
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: running.logged("draining"))
        assert running.plane.draining
        assert not running.plane.stopped
        refused = await running.daemon.reload()
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
        running.plane.kernel_path = FakeKernelPathStats(flows=7)
        signal.raise_signal(signal.SIGTERM)
        await running.task
        (told,) = running.logged("stopping with open sessions")
        assert (told["sessions"], told["in_kernel"]) == (2, 7)


async def test_what_is_left_in_the_kernel_goes_on(tmp_path: Path, servers: dict[str, str]) -> None:
    async with serving(tmp_path, servers, "drain: {deadline: 100ms}") as running:
        running.plane.active = 7
        running.plane.kernel_path = FakeKernelPathStats(flows=7)
        signal.raise_signal(signal.SIGTERM)
        await running.task
        event = "stopping; sessions in the kernel go on for the next process"
        assert running.logged(event)[0]["sessions"] == 7


async def test_a_hup_while_starting_is_a_reload_afterwards(
    tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def and_hup(file: Path, machine: Machine, reading: Reading) -> Loaded:
        found = load(file, machine, reading)
        monkeypatch.setattr(module, "load", load)
        os.kill(os.getpid(), signal.SIGHUP)
        return found

    monkeypatch.setattr(module, "load", and_hup)
    async with serving(tmp_path, servers) as running:
        await until(lambda: running.logged("reloaded"))
        assert running.logged("reloaded")[0]["change"] == "nothing changed"


async def test_a_reload_says_what_changed_in_checks(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    async with serving(tmp_path, servers) as running:
        write(running.file, servers, "drain: {deadline: 1h}")
        outcome = await running.daemon.reload()
        assert outcome.message == "drain deadline 30m -> 1h"


async def test_a_pair_is_told_of_apart(tmp_path: Path, servers: dict[str, str]) -> None:
    async with serving(tmp_path, servers) as running:
        digest = running.daemon.health().digest
        write(running.file, servers, "ha: {mode: external}")
        outcome = await running.daemon.reload()
        assert outcome.message == "ha changed: mailweir ha has to be told (HUP)"
        assert running.daemon.health().digest == digest
        write(running.file, servers, "drain: {deadline: 1h}")
        await running.daemon.reload()
        assert running.daemon.health().digest != digest


async def test_health_in_short(tmp_path: Path, servers: dict[str, str]) -> None:
    async with serving(tmp_path, servers) as running:
        found = running.daemon.health()
        assert (found.listening, found.ending, found.workers_alive) == (True, False, True)
        assert (found.servers, found.up, found.pools_down, found.reasons) == (2, 2, [], [])
        running.daemon.pair.tell(HaRole.ACTIVE, HaKeeper.NATIVE)
        role = running.daemon.situation().role
        assert role
        assert role.role is HaRole.ACTIVE
        assert len(running.logged("high availability")) == 1
        running.plane.active = 1
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: running.daemon.health().ending)
        assert running.daemon.health().reasons == ["draining: no new sessions are taken"]


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


def test_what_needs_a_restart_is_said_with_its_place() -> None:
    text = "workers: 2\nadmin:\n  http: off\n  socket: /tmp/a.sock\nstate_dir: /tmp/s\n" + MINIMAL
    assert restart_needed(loaded(text), loaded(text)) == []
    assert [str(problem) for problem in restart_needed(loaded(), loaded(text))] == [
        "f.yaml:1:10: workers: can't change while running (auto -> 2); restart mailweir",
        "f.yaml:4:11: admin.socket: can't change while running (/run/mailweir/admin.sock ->"
        " /tmp/a.sock); restart mailweir",
        "f.yaml:3:9: admin.http: can't change while running (127.0.0.1:8025 -> off); restart"
        " mailweir",
        "f.yaml:5:12: state_dir: can't change while running (/var/lib/mailweir -> /tmp/s);"
        " restart mailweir",
    ]
    (problem,) = restart_needed(loaded("workers: 2\n" + MINIMAL), loaded())
    assert (problem.line, problem.column) == (1, 1)


async def test_an_operators_word_outlives_reload_and_restart(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    def drain(operator: Operator, config: Config) -> None:
        operator.set_state(A, "drain", Speaker("root"), config)

    def ready(operator: Operator, config: Config) -> None:
        operator.ready(A, config)

    async with serving(tmp_path, servers) as running:
        assert await running.daemon.operate(drain, what="drain farm/a", by="root") == ""
        assert running.plane.states[A] is ServerState.DRAIN
        assert (await running.daemon.reload()).ok
        assert running.plane.states[A] is ServerState.DRAIN
    async with serving(tmp_path, servers) as running:
        assert running.plane.states[A] is ServerState.DRAIN
        assert running.logged("operator's word from before")[0]["change"] == "drain farm/a"
        await running.daemon.operate(ready, what="ready farm/a", by="root")
        assert running.plane.states[A] is ServerState.UP


async def test_a_deny_outlives_reload_and_restart(tmp_path: Path, servers: dict[str, str]) -> None:
    def deny(operator: Operator, _: Config) -> None:
        operator.deny("192.0.2.0/24", Speaker("root"))

    async with serving(tmp_path, servers) as running:
        assert await running.daemon.operate(deny, what="deny 192.0.2.0/24", by="root") == ""
        assert running.plane.applied[-1].denied == ("192.0.2.0/24",)
        assert (await running.daemon.reload()).ok
        assert running.plane.applied[-1].denied == ("192.0.2.0/24",)
        running.plane.live = [FakeSession()]
        assert running.plane.kill_from("192.0.2.0/24") == 1
    async with serving(tmp_path, servers) as running:
        assert running.plane.applied[-1].denied == ("192.0.2.0/24",)
        assert running.logged("operators' denies from before")[0]["prefixes"] == 1


async def test_an_operators_word_ends_when_it_said(tmp_path: Path, servers: dict[str, str]) -> None:
    def pause(operator: Operator, config: Config) -> None:
        operator.pause(None, Speaker("root", 0.1), config)

    async with serving(tmp_path, servers) as running:
        await running.daemon.operate(pause, what="pause the node", by="root")
        # On a busy machine it may be over by now.
        assert any(state.listeners[0].paused for state in running.plane.applied)
        await until(lambda: not running.plane.applied[-1].listeners[0].paused)
        assert running.logged("not ready")[0]["reason"].startswith("paused by root")
        assert running.logged("operator's word is over")[0]["change"] == "pause"


async def test_a_server_in_maintenance_is_not_checked(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    def maint(operator: Operator, config: Config) -> None:
        operator.set_state(A, "maint", Speaker("root"), config)

    async with serving(tmp_path, servers) as running:
        await running.daemon.operate(maint, what="maint farm/a", by="root")
        assert running.plane.states[A] is ServerState.MAINT
        assert running.daemon.situation().last_check(A) is None


async def test_what_cannot_be_kept_counts_and_is_said(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    def weigh(operator: Operator, config: Config) -> None:
        operator.set_weight(A, "50%", Speaker("root"), config)

    async with serving(tmp_path, servers) as running:
        (tmp_path / "state" / "overrides.new").mkdir()
        problem = await running.daemon.operate(weigh, what="weight farm/a 50%", by="root")
        assert problem.endswith("overrides.json can't be written: Is a directory")
        assert running.plane.applied[-1].pools[0].servers[0].weight == 50
        assert running.daemon.situation().not_kept == problem


async def test_a_server_that_fails_sessions_is_looked_at(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    async with serving(tmp_path, servers) as running:
        running.plane.trouble("farm", "a")
        await until(lambda: not running.plane.troubles)


async def test_logs_are_opened_anew(tmp_path: Path, servers: dict[str, str]) -> None:
    async with serving(tmp_path, servers) as running:
        signal.raise_signal(signal.SIGUSR1)
        await until(lambda: running.plane.reopened == 1)
