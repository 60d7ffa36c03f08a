"""Reloads that were asked for, how each went, and what none of them can change."""

import asyncio
from collections.abc import Iterable
from typing import TypeVar

import structlog

from mailweir.admin.views import ReloadOutcome
from mailweir.config.load import Loaded
from mailweir.errors import Problem

# Of these the process has but one, from its start to its end.
_FIXED: tuple[tuple[str, ...], ...] = (
    ("workers",),
    ("admin", "socket"),
    ("admin", "http"),
    ("state_dir",),
)


_Outcome = TypeVar("_Outcome")

_log = structlog.get_logger("mailweir")


class ReloadRequests:
    """Who asked for a reload: any number before the main loop comes round is one reload."""

    def __init__(self) -> None:
        self._wanted = False
        self._waiting: list[asyncio.Future[ReloadOutcome]] = []

    def ask(self) -> None:
        """Ask for one, whatever comes of it."""
        self._wanted = True

    async def outcome(self) -> ReloadOutcome:
        """How the one asked for by now went, once it was tried."""
        waiter: asyncio.Future[ReloadOutcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        return await waiter

    def take(self) -> list[asyncio.Future[ReloadOutcome]] | None:
        """Who waits for the reload that is wanted; None if none is. What is asked for from
        here on is another reload.
        """
        if not self._wanted:
            return None
        waiting, self._waiting = self._waiting, []
        self._wanted = False
        return waiting


def answer(waiting: list[asyncio.Future[_Outcome]], outcome: _Outcome) -> None:
    """Tell those who still wait."""
    for waiter in waiting:
        if not waiter.done():
            waiter.set_result(outcome)


def restart_needed(old: Loaded, new: Loaded) -> list[Problem]:
    """What differs in `new` that a running process can't change."""
    problems = []
    for path in _FIXED:
        before: object = old.config
        after: object = new.config
        for step in path:
            before, after = getattr(before, step), getattr(after, step)
        if before != after:
            default = "auto" if path == ("workers",) else "off"
            change = (
                f"{default if before is None else before} -> {default if after is None else after}"
            )
            problems.append(
                new.problem(path, f"can't change while running ({change}); restart mailweir")
            )
    return problems


def log_problems(problems: Iterable[Problem], *, level: str) -> None:
    """A line each."""
    for problem in problems:
        getattr(_log, level)("configuration", problem=str(problem))
