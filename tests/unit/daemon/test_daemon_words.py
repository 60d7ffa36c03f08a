"""What operators say to the running process."""

from pathlib import Path

import pytest

from mailweir import changes
from mailweir.config.model import Config
from mailweir.operator import Operator, Speaker
from mailweir.spec import ServerState
from mailweir.state.overrides import Overrides
from unit import figures
from unit.daemon.running import ROOT, A, serving, until


async def test_an_operators_word_outlives_reload_and_restart(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    def drain(operator: Operator, config: Config) -> None:
        operator.set_state(A, "drain", ROOT, config)

    def ready(operator: Operator, config: Config) -> None:
        operator.ready(A, config)

    async with serving(tmp_path, servers) as running:
        assert await running.balancer.operate(drain, what="drain farm/a", speaker=ROOT) == ""
        assert running.plane.states[A] is ServerState.DRAIN
        assert (await running.balancer.reload()).ok
        assert running.plane.states[A] is ServerState.DRAIN
    async with serving(tmp_path, servers) as running:
        assert running.plane.states[A] is ServerState.DRAIN
        assert running.logged("operator's word from before")[0]["change"] == "drain farm/a"
        await running.balancer.operate(ready, what="ready farm/a", speaker=ROOT)
        assert running.plane.states[A] is ServerState.UP


async def test_a_deny_outlives_reload_and_restart(tmp_path: Path, servers: dict[str, str]) -> None:
    def deny(operator: Operator, _: Config) -> None:
        operator.deny("192.0.2.0/24", ROOT)

    async with serving(tmp_path, servers) as running:
        assert await running.balancer.operate(deny, what="deny 192.0.2.0/24", speaker=ROOT) == ""
        assert running.plane.applied[-1].denied == ("192.0.2.0/24",)
        assert (await running.balancer.reload()).ok
        assert running.plane.applied[-1].denied == ("192.0.2.0/24",)
        running.plane.live = [figures.SESSION]
        assert running.plane.kill_from("192.0.2.0/24") == 1
    async with serving(tmp_path, servers) as running:
        assert running.plane.applied[-1].denied == ("192.0.2.0/24",)
        assert running.logged("operators' denies from before")[0]["prefixes"] == 1


async def test_an_operators_word_ends_when_it_said(tmp_path: Path, servers: dict[str, str]) -> None:
    def pause(operator: Operator, config: Config) -> None:
        operator.pause(None, Speaker("root", 0.1), config)

    async with serving(tmp_path, servers) as running:
        await running.balancer.operate(pause, what="pause the node", speaker=ROOT)
        # On a busy machine it may be over by now.
        assert any(state.listeners[0].paused for state in running.plane.applied)
        await until(lambda: not running.plane.applied[-1].listeners[0].paused)
        assert running.logged("not ready")[0]["reason"].startswith("paused by root")
        assert running.logged("operator's word is over")[0]["change"] == "pause"


async def test_a_server_in_maintenance_is_not_checked(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    def maint(operator: Operator, config: Config) -> None:
        operator.set_state(A, "maint", ROOT, config)

    async with serving(tmp_path, servers) as running:
        await running.balancer.operate(maint, what="maint farm/a", speaker=ROOT)
        assert running.plane.states[A] is ServerState.MAINT
        assert running.balancer.situation().checks(A) == ()


async def test_what_cannot_be_kept_counts_and_is_said(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    def weigh(operator: Operator, config: Config) -> None:
        operator.set_weight(A, "50%", ROOT, config)

    async with serving(tmp_path, servers) as running:
        (tmp_path / "state" / "overrides.new").mkdir()
        problem = await running.balancer.operate(weigh, what="weight farm/a 50%", speaker=ROOT)
        assert problem.endswith("overrides.json can't be written: Is a directory")
        assert running.plane.applied[-1].pools[0].servers[0].weight == 50
        assert running.balancer.situation().not_kept == problem


async def test_a_bug_in_an_operators_change_leaves_the_old_state(
    tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def drain(operator: Operator, config: Config) -> None:
        operator.set_state(A, "drain", ROOT, config)

    async with serving(tmp_path, servers) as running:
        with monkeypatch.context() as patch:
            patch.setattr(changes, "fold", lambda *_, **__: 1 / 0)
            said = await running.balancer.operate(drain, what="drain farm/a", speaker=ROOT)
        assert said == (
            "internal error: ZeroDivisionError('division by zero'); nothing has changed"
        )
        assert running.balancer.situation().overrides == Overrides()
        (fault,) = running.balancer.situation().faults
        assert (fault.part, fault.times) == ("change", 1)
        assert len(running.logged("internal error")) == 1
        assert await running.balancer.operate(drain, what="drain farm/a", speaker=ROOT) == ""
        assert running.plane.states[A] is ServerState.DRAIN
    assert (tmp_path / "state" / "overrides.json").exists()
