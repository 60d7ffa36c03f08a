"""What outlives `mailweir ha`: that an operator wants this node in maintenance. Used by `agent`.

It is a file that is there or isn't, in the folder of the pair. What is wanted counts at once and
the file follows: heartbeats wait for no disk.
"""

import asyncio
import os
from functools import partial
from pathlib import Path

import structlog

from mailweir.lanes import Lane
from mailweir.plainfile import open_plain, reason

# Seconds that the disk may take to tell what was kept, and that an operator waits for it to keep.
_READING, _WRITING = 10.0, 1.0

_log = structlog.get_logger("mailweir")


class Maintenance:
    """The file in one folder, as far as the disk has it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "maintenance"
        self._lane = Lane("maintenance")
        self._due: bool | None = None
        self._writing: asyncio.Task[None] | None = None
        self._failed = ""

    async def read(self) -> bool:
        """Whether maintenance was wanted last. Raises StalledError where the disk hangs."""
        what = f"state_dir: looking for {self._file}"
        return await self._lane.call(
            partial(os.path.lexists, self._file), limit=_READING, what=what
        )

    async def keep(self, wanted: bool) -> None:
        """Have this kept; returns when it is, or takes long."""
        self._due = wanted
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        await asyncio.wait({self._writing}, timeout=_WRITING)

    @property
    def problem(self) -> str:
        """Why what is wanted won't outlive the process; empty where it will."""
        if self._writing is not None and not self._writing.done():
            return f"{self._file} isn't written yet: its disk takes long"
        return self._failed

    async def _write(self) -> None:
        while (wanted := self._due) is not None:
            self._due = None
            self._failed = await self._lane.call(partial(self._put, wanted=wanted))
            if self._failed:
                _log.error("maintenance won't outlive this process", reason=self._failed)

    def _put(self, *, wanted: bool) -> str:
        try:
            if wanted:
                os.close(open_plain(self._file, os.O_WRONLY | os.O_CREAT))
            else:
                self._file.unlink(missing_ok=True)
        except OSError as error:
            change = "written" if wanted else "removed"
            return f"{self._file} can't be {change}: {reason(error)}"
        return ""
