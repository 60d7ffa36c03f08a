"""Leads the demo from start to end: what is started when, and undone on any way out."""

import asyncio
import signal
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from mailweir.demo.child import Child
from mailweir.demo.farm import Farm, come_and_go
from mailweir.demo.introduction import introduction
from mailweir.demo.ledger import Ledger
from mailweir.demo.screen import Screen, for_stdout
from mailweir.demo.traffic import Traffic
from mailweir.demo.verdict import verdict
from mailweir.demo.watch import View, Watch, rows
from mailweir.errors import Exit

ONCE = 15.0  # seconds of `--once`
_LOOK = 0.25  # seconds between looks at the balancer
_LAST_MAILS = 12.0  # seconds for sessions under way at the end; an answer may take 10
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(*, once: bool) -> Exit:
    """For 15 s, or until Ctrl-C. Raises MailweirError where the balancer doesn't work."""
    return asyncio.run(_run(ONCE if once else None))


async def _run(seconds: float | None) -> Exit:
    stop = asyncio.Event()
    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as exits:
        return await Demo(for_stdout(), exits, stop).run(seconds)


class Demo:
    """One demo. What it starts is undone by `exits`, in the opposite order."""

    def __init__(self, screen: Screen, exits: AsyncExitStack, stop: asyncio.Event) -> None:
        self._screen = screen
        self._exits = exits
        self._stop = stop
        self._ledger = Ledger()
        self._farm = Farm(self._ledger)
        self._watch = Watch()
        self._begin = time.monotonic()

    async def run(self, seconds: float | None) -> Exit:
        """Start all, let it run, end it, say how it went."""
        child = await self._start()
        if self._stop.is_set():
            return Exit.OK
        # Numbers that keep no secret.
        traffic = Traffic(child.smtp_port, self._ledger, Random())  # noqa: S311
        enough = asyncio.Event()
        sending = asyncio.create_task(traffic.run(enough))
        self._exits.push_async_callback(_cancelled, sending)
        await first(
            self._stop.wait(),
            asyncio.shield(sending),
            self._look_on(child),
            come_and_go(self._farm.flaky, self._say),
            seconds=seconds,
        )
        enough.set()
        await asyncio.wait({sending}, timeout=_LAST_MAILS)
        view = await self._look(child)
        self._screen.close()
        whole = seconds is not None and not self._stop.is_set()
        result = verdict(view, self._ledger, self._farm, sessions=traffic.sessions, whole=whole)
        self._screen.write(f"\n{result}")
        return Exit.FAILURE if result.problems else Exit.OK

    async def _start(self) -> Child:
        folder = TemporaryDirectory(prefix="mailweir-demo-", ignore_cleanup_errors=True)
        path = Path(self._exits.enter_context(folder))
        self._exits.callback(self._farm.end)
        self._farm.open()
        child = Child(path, {server.name: server.port for server in self._farm.servers})
        self._exits.push_async_callback(child.stop)
        self._screen.write(introduction(self._farm, child))
        await child.start()
        await first(self._stop.wait(), child.ready())
        self._exits.callback(self._screen.close)
        self._begin = time.monotonic()
        return child

    async def _look_on(self, child: Child) -> None:
        while True:
            await self._look(child)
            await asyncio.sleep(_LOOK)

    async def _look(self, child: Child) -> View:
        servers = await child.servers()
        seconds, ledger = time.monotonic() - self._begin, self._ledger
        for event in self._watch.look(servers, seconds):
            self._say(event)
        view = View(
            seconds=seconds,
            rows=rows(servers, {server.name: server.mails for server in self._farm.servers}),
            sent=ledger.sent,
            delivered=ledger.delivered,
            failed=ledger.failed,
            lost=ledger.lost,
            duplicates=ledger.duplicates,
            sessions_per_second=self._watch.sessions_per_second,
        )
        self._screen.show(view)
        return view

    def _say(self, event: str) -> None:
        self._screen.event(time.monotonic() - self._begin, event)


async def first(*works: Awaitable[object], seconds: float | None = None) -> None:
    """Until one of them ends or the time is over; the others are cancelled. Raises its error."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await _cancelled(*tasks)


async def _cancelled(*tasks: "asyncio.Future[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
