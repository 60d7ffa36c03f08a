"""The program that an upgrade begins: one that dies at a point of it, hangs or dawdles, where it is
told to.

A script that is the beginning of mailweir's command, as `stalling` is; the next process is begun by
it alone.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mailweir.cli import main
from mailweir.upgrade import predecessor
from mailweir.upgrade.channel import VARIABLE

# In the order in which a process that takes over comes by.
POINTS = ("started", "configured", "prepared", "its turn", "listening")
HANGS = "hangs"  # with its configuration read, for ever
DAWDLES = "dawdles"  # with its listeners open, for a while; it says so
_WHILE = 2.0
_REPOSITORY = Path(__file__).parents[2]


class Program:
    """Where the command finds it, as a package would replace it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "mailweir"
        self.replace("")

    def replace(self, point: str) -> None:
        """From now on whoever is begun does so, or dies there; nowhere with an empty one."""
        new = self.file.with_suffix(".new")
        paths = [str(_REPOSITORY / folder) for folder in ("python", "tests")]
        new.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path[:0] = {paths}\n"
            f"from scenarios.upgrading import begin\nbegin({point!r})\n"
        )
        new.chmod(0o755)
        new.replace(self.file)


def begin(point: str) -> None:
    """Run mailweir, to that point of taking over."""
    if sys.argv[2:4] == ["-m", "mailweir"]:
        del sys.argv[1:4]
    if point and VARIABLE in os.environ:
        _goes_wrong(point)
    main()


def _goes_wrong(point: str) -> None:
    def comes_by(place: str) -> None:
        if place == point:
            os.kill(os.getpid(), signal.SIGKILL)

    comes_by("started")
    go, released = predecessor.Predecessor.go, predecessor.Predecessor.released
    listening = predecessor.Predecessor.listening

    def dies_when_configured(self: predecessor.Predecessor) -> object:
        comes_by("configured")
        if point == HANGS:
            time.sleep(3600)
        return listening(self)

    async def dies_at_go(self: predecessor.Predecessor, version: str) -> object:
        comes_by("prepared")
        message = await go(self, version)
        comes_by("its turn")
        return message

    async def dies_when_released(self: predecessor.Predecessor) -> None:
        comes_by("listening")
        if point == DAWDLES:
            print(DAWDLES, file=sys.stderr, flush=True)
            await asyncio.sleep(_WHILE)
        await released(self)

    changes: dict[str, Callable[..., Any]] = {
        "listening": dies_when_configured,
        "go": dies_at_go,
        "released": dies_when_released,
    }
    for name, change in changes.items():
        setattr(predecessor.Predecessor, name, change)
