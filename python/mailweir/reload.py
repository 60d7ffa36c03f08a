"""Reloads: how they go, who asked for one, how a file is read for them, and what none of them can
change. Used by `changes`; their outcomes are shown by `admin`.
"""

import asyncio
import gc
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from mailweir.config.agreed import Agreement, agreement
from mailweir.config.load import Loaded, load, without_collector
from mailweir.config.reading import Reading, look_at
from mailweir.errors import ConfigError, Problem, StalledError
from mailweir.lanes import Lane
from mailweir.this_machine import this_machine

# Of these the process has but one, from its start to its end.
FIXED: tuple[tuple[str, ...], ...] = (
    ("workers",),
    ("admin", "socket"),
    ("admin", "http"),
    ("state_dir",),
)
# A kernel path reads these when there comes to be one, which stays. Before that they can change.
FIXED_BY_KERNEL_PATH = (("source_ports",), ("max_flows",))
# Seconds without a sign that a configuration is read or gone through: a file or a name hangs.
_LIMIT = 10.0


_Outcome = TypeVar("_Outcome")

_log = structlog.get_logger("mailweir")


@dataclass(frozen=True, slots=True)
class ReloadOutcome:
    """How a reload went. `message` is the change in one sentence, or why there was none.

    `generation` is the number of the configuration that is in force afterwards: from 1 on, one
    more for each that differs from the one before.
    """

    ok: bool
    generation: int
    message: str
    at: float  # seconds since 1970
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """What a reload would change, or why there would be none."""

    changes: tuple[str, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


class Requests(Generic[_Outcome]):
    """Who asked for a reload, or an upgrade: any number before the main loop comes round is one."""

    def __init__(self) -> None:
        self._wanted = False
        self._waiting: list[asyncio.Future[_Outcome]] = []

    def ask(self) -> None:
        """Ask for one, whatever comes of it."""
        self._wanted = True

    async def outcome(self) -> _Outcome:
        """How the one asked for by now went, once it was tried."""
        waiter: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        return await waiter

    def take(self) -> list[asyncio.Future[_Outcome]] | None:
        """Who waits for what is wanted; None if nothing is. What is asked for from here on is
        another one.
        """
        if not self._wanted:
            return None
        waiting, self._waiting = self._waiting, []
        self._wanted = False
        return waiting


@dataclass(frozen=True, slots=True)
class Read:
    """A configuration that was read, and what the other node of a pair has to agree to of it."""

    loaded: Loaded
    agreement: Agreement


class Reader:
    """Reads the configuration file, one reading after the other, beside the event loop."""

    def __init__(self, file: Path, *, limit: float = _LIMIT) -> None:
        self._file = file
        self._limit = limit
        self._lane = Lane("configuration")

    async def read(self) -> Read:
        """The file as it is now. Raises ConfigError, or StalledError where a file, or the service
        that knows users and groups, doesn't answer.
        """
        reading = Reading()
        try:
            return await self._lane.call(
                partial(_read, self._file, reading),
                limit=self._limit,
                what=str(self._file),
                moved=lambda: reading.moved,
            )
        except StalledError as error:
            # The thread that is left behind had it look for no garbage.
            gc.enable()
            now = f": {reading.what} is still waited for" if reading.what else ""
            raise StalledError(f"{error} to read{now}") from None


def _read(file: Path, reading: Reading) -> Read:
    with without_collector():
        loaded = load(file, this_machine(), reading)
        if loaded.config.log.sessions.startswith("/"):
            # The data plane opens it while a change is made, which is to wait for nothing.
            look_at(loaded.config.log.sessions, reading)
        return Read(loaded, agreement(loaded.config))


def answer(waiting: list[asyncio.Future[_Outcome]], outcome: _Outcome) -> None:
    """Tell those who still wait."""
    for waiter in waiting:
        if not waiter.done():
            waiter.set_result(outcome)


def refuse_what_is_fixed(old: Loaded, new: Loaded, *, kernel_path: bool) -> None:
    """Raises ConfigError where `new` differs in what a running process can't change."""
    if problems := restart_needed(old, new, kernel_path=kernel_path):
        raise ConfigError(problems, new.warnings)


def restart_needed(old: Loaded, new: Loaded, *, kernel_path: bool) -> list[Problem]:
    """What differs in `new` that a running process can't change. `kernel_path`: it has one, whether
    a listener wants it now or not.
    """
    fixed = [(path, "while running") for path in FIXED]
    if kernel_path:
        fixed += [(path, "while there is a kernel path") for path in FIXED_BY_KERNEL_PATH]
    problems = []
    for path, when in fixed:
        before: object = old.config
        after: object = new.config
        for step in path:
            before, after = getattr(before, step), getattr(after, step)
        if before != after:
            change = f"{_written(path, before)} -> {_written(path, after)}"
            problems.append(new.problem(path, f"can't change {when} ({change}); restart mailweir"))
    return problems


def _written(path: tuple[str, ...], value: object) -> str:
    if isinstance(value, range):
        return f"{value[0]}-{value[-1]}"
    if value is None:
        return "auto" if path == ("workers",) else "off"
    return str(value)


def log_problems(problems: Iterable[Problem], *, level: str) -> None:
    """A line each."""
    for problem in problems:
        getattr(_log, level)("configuration", problem=str(problem))
