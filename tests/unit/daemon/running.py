"""A running process with a fake data plane."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from structlog.testing import capture_logs
from structlog.typing import EventDict

from mailweir.daemon import Daemon
from mailweir.journal import Journal
from mailweir.operator import Speaker
from mailweir.running import Running
from mailweir.spec import ServerKey, ServerState
from mailweir.supervisor import Supervisor
from mailweir.upgrade.predecessor import Predecessor
from unit.fakes import FakePlane

A = ServerKey("farm", "a")
ROOT = Speaker("root")


@dataclass
class Serving:
    """A daemon that serves, what it drives and what it logs."""

    daemon: Daemon
    plane: FakePlane
    file: Path
    task: "asyncio.Task[None]"
    logs: list[EventDict]

    @property
    def balancer(self) -> Running:
        """As the admin routes know it."""
        return self.daemon.running

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


def write(file: Path, servers: dict[str, str], extra: str = "", *, pool: str = "") -> None:
    """The configuration; `pool` is one more line of its pool's."""
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
    {pool}
    servers:
{rows}""")


def with_plane(file: Path, plane: FakePlane, before: Predecessor | None = None) -> Daemon:
    """A process with this data plane, and with another process before it."""
    return Daemon(
        file,
        version="1.2.3",
        journal=Journal(),
        supervisor=Supervisor({}),
        predecessor=before,
        start_plane=lambda *_: plane,
    )


@asynccontextmanager
async def serving(
    folder: Path, servers: dict[str, str], extra: str = "", *, pool: str = ""
) -> AsyncIterator[Serving]:
    file = folder / "f.yaml"
    write(file, servers, extra, pool=pool)
    plane = FakePlane()
    with capture_logs() as logs:
        daemon = with_plane(file, plane)
        task = asyncio.create_task(daemon.run())
        running = Serving(daemon, plane, file, task, logs)
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
