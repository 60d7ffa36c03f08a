"""A group of processes with less memory than the machine has, or that stands still as one (cgroups,
version 1 or 2).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.needs import missing
from harness.waiting import until

_ROOT = Path("/sys/fs/cgroup")


class Group:
    """The group, which is empty at first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # To begin a command with that is to run in it.
        enter = f'echo $$ > {folder}/cgroup.procs && exec "$@"'
        self.before = ["sh", "-c", enter, "sh"]

    def killed(self) -> int:
        """How many of its processes were killed for want of memory."""
        for name in ("memory.events", "memory.oom_control"):
            file = self._folder / name
            if file.exists():
                rows = dict(line.split() for line in file.read_text().splitlines())
                return int(rows["oom_kill"])
        return missing("needs a kernel that counts who is killed")

    def most(self) -> int:
        """The most memory that it has had, in bytes."""
        for name in ("memory.peak", "memory.max_usage_in_bytes"):
            file = self._folder / name
            if file.exists():
                return int(file.read_text())
        return missing("needs a kernel that counts memory")


@contextmanager
def limited_memory(name: str, limit: int) -> Iterator[Group]:
    """A group that may have `limit` bytes. Its processes have to end before it does."""
    first, file = _ROOT / "memory", "memory.limit_in_bytes"
    if not first.is_dir():
        first, file = _ROOT, "memory.max"
    folder = first / f"mailweir-{name}"
    try:
        folder.mkdir()
        (folder / file).write_text(str(limit))
    except OSError as error:
        missing(f"needs a cgroup with a memory limit: {error}")
    try:
        yield Group(folder)
    finally:
        folder.rmdir()


class Freezer:
    """Processes that can be made to stand still all at once, as those of a paused machine do."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, pids: Iterable[int]) -> None:
        """Have these in it."""
        for pid in pids:
            (self._folder / "cgroup.procs").write_text(str(pid))

    def freeze(self) -> None:
        """None of them runs when this returns."""
        self._set("FROZEN", "1", "frozen 1")

    def thaw(self) -> None:
        """They go on."""
        self._set("THAWED", "0", "frozen 0")

    def _set(self, state: str, number: str, event: str) -> None:
        old, new = self._folder / "freezer.state", self._folder / "cgroup.freeze"
        if old.exists():
            old.write_text(state)
            until(lambda: old.read_text().strip() == state, f"the group to be {state}")
        else:
            new.write_text(number)
            events = self._folder / "cgroup.events"
            until(lambda: event in events.read_text(), f"the group to be {state}")


@contextmanager
def freezer(name: str) -> Iterator[Freezer]:
    """An empty one; those in it go on when the block ends."""
    root = _ROOT / "freezer" if (_ROOT / "freezer").is_dir() else _ROOT
    folder = root / f"mailweir-{name}"
    try:
        folder.mkdir()
    except OSError as error:
        missing(f"needs a cgroup that can be frozen: {error}")
    made = Freezer(folder)
    try:
        yield made
    finally:
        made.thaw()
        for pid in (folder / "cgroup.procs").read_text().split():
            (root / "cgroup.procs").write_text(pid)
        folder.rmdir()
