"""A group of processes with less memory than the machine has (cgroups, version 1 or 2)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.needs import missing

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
