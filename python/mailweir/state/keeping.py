"""Has operators' words kept without waiting for the disk. Owned by the daemon.

What is to be kept counts at once; the file follows. Of words that come while the disk is busy the
last ones are written: they are all that counts by then.
"""

import asyncio
from functools import partial

import structlog

from mailweir.lanes import Lane
from mailweir.state.overrides import Overrides
from mailweir.state.overrides_file import OverridesFile

# How long somebody waits for the disk that a word is kept on, in seconds.
PATIENCE = 0.3
# Seconds that the disk may take to tell what was kept before.
_READING = 10.0

_log = structlog.get_logger("mailweir")


class Keeping:
    """The words in their file, as far as it has them."""

    def __init__(self, file: OverridesFile) -> None:
        self._file = file
        self._lane = Lane("overrides")
        self._due: Overrides | None = None
        self._writing: asyncio.Task[None] | None = None
        self._failed = ""

    async def read(self) -> tuple[Overrides, str]:
        """As `OverridesFile.read`. Raises StalledError where the disk doesn't answer."""
        what = f"state_dir: reading {self._file.path}"
        return await self._lane.call(self._file.read, limit=_READING, what=what)

    def keep(self, overrides: Overrides) -> None:
        """Have these kept soon, instead of all before."""
        self._due = overrides
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    @property
    def problem(self) -> str:
        """Why what was said won't outlive the process; empty where it will."""
        if self._writing is not None and not self._writing.done():
            return f"{self._file.path} isn't written yet: its disk takes long"
        return self._failed

    async def settled(self, limit: float) -> str:
        """The problem, once all is kept or can't be; after `limit` seconds in any case."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=limit)
        return self.problem

    async def _write(self) -> None:
        while (overrides := self._due) is not None:
            self._due = None
            try:
                failed = await self._lane.call(partial(self._file.write, overrides))
            except Exception as error:
                failed = f"{self._file.path} can't be written: internal error: {error!r}"
            if failed and failed != self._failed:
                _log.error("operators' words won't outlive the process", reason=failed)
            self._failed = failed
