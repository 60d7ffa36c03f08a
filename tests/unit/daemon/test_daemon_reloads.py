"""Reloads of the running process: what they change, and what they leave."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from mailweir import changes
from mailweir import reload as module
from mailweir.config.load import Loaded, load
from mailweir.config.machine import ThisMachine
from mailweir.config.model import Config
from mailweir.config.reading import Reading
from mailweir.operator import Operator
from mailweir.reload import restart_needed
from mailweir.spec import ServerKey, ServerState
from mailweir.state import diff
from unit import figures
from unit.daemon.running import ROOT, A, serving, until, write
from unit.fakes import MINIMAL, loaded
from unit.health.scripted import playing, say


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
        outcome = await running.balancer.reload()
        assert outcome.message == "nothing changed"
        assert 1 <= len(running.logged("reloaded")) <= 3
        assert len(running.plane.applied) == 1


async def test_the_generation_is_the_configuration_s(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    """Neither an operator's word nor a file that says the same makes another one."""
    async with serving(tmp_path, servers) as running:
        balancer = running.balancer
        said = await balancer.operate(_heavier, what="weight farm/a 7", speaker=ROOT)
        assert said == ""
        assert len(running.plane.applied) == 2
        running.file.write_text(f"# The same.\n{running.file.read_text()}")
        assert (await balancer.reload()).generation == 1
        # What the data plane isn't told is a part of it too.
        text = running.file.read_text()
        running.file.write_text(text.replace("rise: 1", "rise: 9"))
        assert (await balancer.reload()).generation == 2
        running.file.write_text("listeners: {}\n")
        assert (await balancer.reload()).generation == 2
        assert balancer.situation().last_load.generation == balancer.health().generation == 2


def _heavier(operator: Operator, config: Config) -> None:
    operator.set_weight(ServerKey("farm", "a"), "7", ROOT, config)


async def test_a_bad_file_changes_nothing(tmp_path: Path, servers: dict[str, str]) -> None:
    async with serving(tmp_path, servers) as running:
        running.file.write_text("listeners: {}\npools: 3\n")
        outcome = await running.balancer.reload()
        assert not outcome.ok
        assert outcome.problems == (
            f"{running.file}:1:12: listeners: must not be empty",
            f"{running.file}:2:8: pools: must be a mapping (`name: value` lines), not 3",
        )
        errors = [e for e in running.logged("configuration") if e["log_level"] == "error"]
        assert [e["problem"] for e in errors] == list(outcome.problems)
        assert len(running.plane.applied) == 1
        assert running.balancer.situation().last_load == outcome
        write(running.file, servers)
        assert (await running.balancer.reload()).ok


async def test_an_address_that_cannot_be_had_changes_nothing(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    async with serving(tmp_path, servers) as running:
        write(running.file, {**servers, "c": "127.0.0.1:9"})
        running.plane.refuse = "listener mx: 192.0.2.1:25: address in use"
        outcome = await running.balancer.reload()
        assert (outcome.ok, outcome.message) == (False, running.plane.refuse)
        assert sorted(running.states()) == ["a", "b"]
        running.plane.refuse = ""
        assert (await running.balancer.reload()).generation == 2


async def test_a_bug_in_a_reload_ends_nothing(
    tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, servers) as running:
        with monkeypatch.context() as patch:
            patch.setattr(diff, "describe", lambda *_: 1 / 0)
            outcome = await running.balancer.reload()
        assert outcome.message == "internal error: ZeroDivisionError('division by zero')"
        assert (await running.balancer.reload()).ok


async def test_a_reload_does_not_hold_up_what_operators_say(
    tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def drain(operator: Operator, config: Config) -> None:
        operator.set_state(A, "drain", ROOT, config)

    waited = asyncio.Event()

    async def wait(_: object) -> None:
        await waited.wait()

    async with playing(say(b"220 mx\r\n")) as c, serving(tmp_path, servers) as running:
        monkeypatch.setattr(changes, "first_checks", wait)
        write(running.file, {**servers, "c": str(c.address)})
        reloading = asyncio.create_task(running.balancer.reload())
        assert await running.balancer.operate(drain, what="drain farm/a", speaker=ROOT) == ""
        assert running.plane.states[A] is ServerState.DRAIN
        assert not reloading.done()
        # It is checked by now, and not dropped by what was said meanwhile.
        c_key = ServerKey("farm", "c")
        await until(lambda: any(one.results for one in running.balancer.situation().checks(c_key)))
        waited.set()
        assert (await reloading).ok
        assert running.plane.states[A] is ServerState.DRAIN
        assert running.plane.states[ServerKey("farm", "c")] is ServerState.UP


async def test_a_hup_while_starting_is_a_reload_afterwards(
    tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def and_hup(file: Path, machine: ThisMachine, reading: Reading) -> Loaded:
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
        outcome = await running.balancer.reload()
        assert outcome.message == "drain deadline 30m -> 1h"


def test_what_needs_a_restart_is_said_with_its_place() -> None:
    text = "workers: 2\nadmin:\n  http: off\n  socket: /tmp/a.sock\nstate_dir: /tmp/s\n" + MINIMAL
    assert restart_needed(loaded(text), loaded(text), kernel_path=True) == []
    assert [
        str(problem) for problem in restart_needed(loaded(), loaded(text), kernel_path=False)
    ] == [
        "f.yaml:1:10: workers: can't change while running (auto -> 2); restart mailweir",
        "f.yaml:4:11: admin.socket: can't change while running (/run/mailweir/admin.sock ->"
        " /tmp/a.sock); restart mailweir",
        "f.yaml:3:9: admin.http: can't change while running (127.0.0.1:8025 -> off); restart"
        " mailweir",
        "f.yaml:5:12: state_dir: can't change while running (/var/lib/mailweir -> /tmp/s);"
        " restart mailweir",
    ]
    (problem,) = restart_needed(loaded("workers: 2\n" + MINIMAL), loaded(), kernel_path=False)
    assert (problem.line, problem.column) == (1, 1)


def test_what_a_kernel_path_has_to_its_end() -> None:
    text = "source_ports: 20000-20010\nmax_flows: 9\nmax_sessions: 5\n" + MINIMAL
    assert restart_needed(loaded(), loaded(text), kernel_path=False) == []
    assert [str(one) for one in restart_needed(loaded(), loaded(text), kernel_path=True)] == [
        "f.yaml:1:15: source_ports: can't change while there is a kernel path (10000-32767 ->"
        " 20000-20010); restart mailweir",
        "f.yaml:2:12: max_flows: can't change while there is a kernel path (65536 -> 9); restart"
        " mailweir",
    ]


async def test_a_kernel_path_that_comes_while_servers_are_checked(
    tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, servers) as running:

        async def come(_: object) -> None:
            running.plane.kernel_path = figures.KERNEL_PATH

        monkeypatch.setattr(changes, "first_checks", come)
        write(running.file, servers, "max_flows: 9")
        outcome = await running.balancer.reload()
        assert not outcome.ok
        assert outcome.problems[0].endswith(
            "max_flows: can't change while there is a kernel path (65536 -> 9); restart mailweir"
        )
        assert running.plane.applied[-1].kernel.max_flows == 65536
        # Nor says `config diff` that it could be.
        assert (await running.balancer.difference()).problems == outcome.problems
        monkeypatch.undo()
        running.plane.kernel_path = None
        assert (await running.balancer.reload()).message == "max_flows 65536 -> 9"
