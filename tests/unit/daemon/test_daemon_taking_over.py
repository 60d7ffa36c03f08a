"""A process that takes over from another one, which is a fake, with a fake data plane."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

from structlog.testing import capture_logs

from mailweir.config.words import Forwarding
from mailweir.errors import PlaneError
from mailweir.spec import DesiredState, Elsewhere
from mailweir.state.overrides import Overrides, StateWord
from mailweir.upgrade.channel import Go
from mailweir.upgrade.predecessor import Predecessor
from unit.daemon.running import until, with_plane, write
from unit.fakes import FakePlane

_SAID = Overrides(states={"farm/a": StateWord(state="maint", by="root", at=0.0)})


class _Before:
    """The process before this one: at once does what it is asked for."""

    pid, lock, stored, sessions = 1, None, (), 0

    def __init__(self) -> None:
        self.is_released = asyncio.Event()

    def listening(self) -> list[object]:
        return []

    def admin(self, _: str) -> None:
        return None

    async def go(self, _: str) -> Go:
        return Go(_SAID.model_dump_json())

    async def released(self) -> None:
        self.is_released.set()

    async def follow(self, told: Callable[[Elsewhere], object]) -> None:
        told(Elsewhere((), ()))

    def end(self, *, now: bool) -> None:
        assert not now


class _WithoutKernelPath(FakePlane):
    """Has what is asked for but this."""

    def apply(self, state: DesiredState) -> int:
        if any(one.forwarding is Forwarding.KERNEL for one in state.listeners):
            raise PlaneError("no kernel path here")
        return super().apply(state)


def _write(file: Path, forwarding: str) -> None:
    write(file, {"a": "192.0.2.9:9"}, f"forwarding: {forwarding}")
    # It isn't for loopback.
    file.write_text(file.read_text().replace("127.0.0.1:25", "192.0.2.1:25"))


async def test_it_serves_without_a_kernel_path_that_can_not_be_had(tmp_path: Path) -> None:
    """The process before it doesn't any more; what changes later counts all the same."""
    file, plane, before = tmp_path / "f.yaml", _WithoutKernelPath(), _Before()
    _write(file, "kernel")
    with capture_logs() as logs:
        daemon = with_plane(file, plane, cast(Predecessor, before))
        task = asyncio.create_task(daemon.run())
        await until(lambda: any(one["event"] == "started" for one in logs) or task.done())
        assert before.is_released.is_set()
        [said] = [one for one in logs if one["event"].startswith("sessions are relayed")]
        assert said["reason"] == "no kernel path here"
        assert {one.forwarding for one in plane.applied[-1].listeners} == {Forwarding.RELAY}
        # By its own hand, on its own disk.
        kept = tmp_path / "state" / "overrides.json"
        await until(lambda: kept.exists() and '"maint"' in kept.read_text())
        refused = await daemon.running.reload()
        assert (refused.ok, refused.message) == (False, "no kernel path here")
        _write(file, "relay")
        assert (await daemon.running.reload()).ok
        daemon.running._intents.end()
        await task
