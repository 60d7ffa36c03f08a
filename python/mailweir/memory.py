"""How much memory the process may still take, and what says so. Used for the room for sessions.

Whatever allocates in vain ends the process, and every session with it: so memory is counted
beforehand, as descriptors are.
"""

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_NONE = 1 << 60  # what is above that is no limit: version 1 has the largest number of pages


class Left(NamedTuple):
    """Bytes, and `by` what there are no more."""

    size: int
    by: str


def left(root: Path = Path("/")) -> Left:
    """The least of what address space, cgroups and the machine have left."""
    return min([*_limits(root), *_cgroups(root), _machine(root)])


def _limits(root: Path) -> Iterator[Left]:
    page = resource.getpagesize()
    # In pages: all, resident, shared, text, library (0), data and stack.
    sizes = [int(one) * page for one in (root / "proc/self/statm").read_text().split()]
    for what, used, name in (
        (resource.RLIMIT_AS, sizes[0], "address space (RLIMIT_AS)"),
        (resource.RLIMIT_DATA, sizes[5], "data (RLIMIT_DATA)"),
    ):
        limit, _ = resource.getrlimit(what)
        if limit != resource.RLIM_INFINITY:
            yield Left(max(limit - used, 0), f"{_mib(limit)} of {name}")


def _cgroups(root: Path) -> Iterator[Left]:
    """Each that the process is in, of version 2 or 1, and those around them."""
    mounted = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, kinds, path = line.split(":", 2)
        if not kinds:
            top, names = mounted, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in kinds.split(","):
            top = mounted / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = top / path.lstrip("/")
        # Inside a container the path is often one that only its host has.
        for folder in (own, *own.parents) if own.is_dir() else (top,):
            yield from _cgroup(folder, *names)
            if folder == top:
                break


def _cgroup(folder: Path, limit: str, usage: str, cached: str) -> Iterator[Left]:
    most, used = _text(folder / limit).strip(), _text(folder / usage).strip()
    if not most.isdigit() or not used.isdigit() or int(most) >= _NONE:
        return
    rows = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
    # The cache of files is given up before anybody is killed.
    taken = max(int(used) - int(rows.get(cached, 0)), 0)
    yield Left(max(int(most) - taken, 0), f"{_mib(int(most))} of its cgroup")


def _machine(root: Path) -> Left:
    rows = dict(line.split(":", 1) for line in _text(root / "proc/meminfo").splitlines())
    total, available = (int(rows[key].split()[0]) << 10 for key in ("MemTotal", "MemAvailable"))
    return Left(available, f"{_mib(total)} of the machine")


def _mib(size: int) -> str:
    return f"{size >> 20} MiB"


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
