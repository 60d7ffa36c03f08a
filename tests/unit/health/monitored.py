"""A monitor of servers that answer as a test says, on a clock that it moves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from mailweir.config.address import parse_server
from mailweir.config.check_keys import Check
from mailweir.config.model import MAIN_CHECK
from mailweir.config.words import CheckKind, Proxy
from mailweir.faults import Faults
from mailweir.health.check import Outcome
from mailweir.health.monitor import Monitor, Result
from mailweir.health.target import CheckKey, Speech, Target
from mailweir.spec import ServerKey
from mailweir.state.desired import Health

A, B = ServerKey("farm", "a"), ServerKey("farm", "b")
OF_A, OF_B = CheckKey(A, MAIN_CHECK), CheckKey(B, MAIN_CHECK)


def target(port: int, check: Check | None = None) -> Target:
    # Each a host of its own: the budget of a host is another test's.
    address = parse_server(f"10.0.{port >> 8}.{port & 255}:{port}")
    check = check or Check()
    return Target(address, 3.0, CheckKind.EHLO, Speech.SMTP, proxy=Proxy.OFF, check=check)


@dataclass
class Waiting:
    """A pause, which may be given up."""

    what: Callable[[], None]
    is_over: bool = False

    def cancel(self) -> None:
        self.is_over = True


@dataclass
class World:
    """Servers that answer as `up` says, and pauses that last until `tick`."""

    up: dict[int, bool] = field(default_factory=dict)
    conclusive: bool = True
    results: list[Result] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    running: int = 0
    most: int = 0
    now: float = 100.0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: list["Waiting"] = field(default_factory=list)

    async def probe(self, target: Target) -> Outcome:
        self.running += 1
        self.most = max(self.most, self.running)
        await self.gate.wait()
        self.running -= 1
        ok = self.up.get(target.address.port, True)
        step, detail = ("", "") if ok else ("connect", "refused")
        verdict = Health.UP if ok else Health.DOWN
        return Outcome(verdict, step, detail, 0.01, 1.0, self.conclusive)

    def later(self, seconds: float, what: Callable[[], None]) -> "Waiting":
        self.pauses.append(seconds)
        self.waiting.append(one := Waiting(what))
        return one

    async def tick(self) -> None:
        """Let every pause end once, a second later."""
        self.now += 1.0
        ending, self.waiting = self.waiting, []
        for one in ending:
            if not one.is_over:
                one.what()
        await settle()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def monitoring(world: World) -> AsyncIterator[Monitor]:
    world.gate.set()
    monitor = Monitor(
        probe=world.probe,
        on_result=world.results.append,
        random=Random(1),  # noqa: S311 - the same spread in every run
        faults=Faults(),
        later=world.later,
        clock=lambda: world.now,
    )
    yield monitor
    await monitor.close()
