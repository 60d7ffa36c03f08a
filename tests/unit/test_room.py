"""How many sessions there is room for: by descriptors, and by the least memory that says no."""

import resource
from pathlib import Path

import pytest

from mailweir import memory
from mailweir.memory import Left
from mailweir.room import divide
from mailweir.spec import DesiredRoom

_MIB = 1 << 20
_ALL = Left(64 << 30, "65536 MiB of the machine")


def test_descriptors_where_memory_is_plenty() -> None:
    told, auto = divide(20_000, _ALL)
    assert told == auto
    assert told == (DesiredRoom(sessions=8000, spare=1250), "20000 descriptors")


def test_memory_where_that_is_less() -> None:
    told, auto = divide(20_000, Left(132 * _MIB, "150 MiB of its cgroup"))
    assert told.room.sessions == 8000
    assert auto.by == "memory: 150 MiB of its cgroup"
    # What is left over is 12 MiB and what every process needs.
    assert auto.room.sessions * (96 << 10) + 32 * _MIB <= 120 * _MIB
    assert auto.room.sessions > 900
    assert auto.room.spare == auto.room.sessions // 8


def test_some_where_nothing_is_left() -> None:
    _, auto = divide(20_000, Left(0, "64 MiB of its cgroup"))
    assert (auto.room.sessions, auto.room.spare) == (16, 16)


def test_a_setting_decides_which_counts() -> None:
    room = divide(20_000, Left(132 * _MIB, "150 MiB of its cgroup"))
    assert room.where(None) is room.auto
    assert room.where(5000) is room.told


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/statm").write_text("25600 5120 100 1 0 12800 0\n")
    kib = "MemTotal:    8388608 kB\nMemFree:  100 kB\nMemAvailable:    4194304 kB\n"
    (tmp_path / "proc/meminfo").write_text(kib)
    return tmp_path


def _write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


def test_the_machine(root: Path) -> None:
    assert memory.left(root) == (4096 * _MIB, "8192 MiB of the machine")


def test_version_2_and_what_is_around_it(root: Path) -> None:
    (root / "proc/self/cgroup").write_text("0::/system.slice/mailweir.service\n")
    slices = root / "sys/fs/cgroup/system.slice"
    _write(slices, memory__max=f"{200 * _MIB}\n", memory__current=f"{150 * _MIB}\n")
    _write(slices / "mailweir.service", memory__max="max\n", memory__current=f"{90 * _MIB}\n")
    assert memory.left(root) == (50 * _MIB, "200 MiB of its cgroup")
    # The cache of files makes way.
    _write(slices, memory__stat=f"anon 5\ninactive_file {30 * _MIB}\n")
    assert memory.left(root) == (80 * _MIB, "200 MiB of its cgroup")


def test_version_1(root: Path) -> None:
    (root / "proc/self/cgroup").write_text("5:cpu:/\n4:memory:/box\n0::/\n")
    folder = root / "sys/fs/cgroup/memory"
    _write(folder, memory__limit_in_bytes=f"{(1 << 63) - 4096}\n", memory__usage_in_bytes="9\n")
    _write(
        folder / "box",
        memory__limit_in_bytes=f"{150 * _MIB}\n",
        memory__usage_in_bytes=f"{160 * _MIB}\n",
        memory__stat=f"total_inactive_file {20 * _MIB}\n",
    )
    assert memory.left(root) == (10 * _MIB, "150 MiB of its cgroup")


def test_a_container_that_sees_its_own_group_as_the_top(root: Path) -> None:
    (root / "proc/self/cgroup").write_text("0::/docker/0123\n")
    top = root / "sys/fs/cgroup"
    _write(top, memory__max=f"{100 * _MIB}\n", memory__current=f"{60 * _MIB}\n")
    assert memory.left(root) == (40 * _MIB, "100 MiB of its cgroup")


def test_a_limit_of_the_process(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {resource.RLIMIT_AS: 300 * _MIB, resource.RLIMIT_DATA: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda what: (limits[what], limits[what]))
    page = resource.getpagesize()
    expected = 300 * _MIB - 25_600 * page
    assert memory.left(root) == (expected, "300 MiB of address space (RLIMIT_AS)")
    limits[resource.RLIMIT_DATA] = 60 * _MIB
    assert memory.left(root) == (60 * _MIB - 12_800 * page, "60 MiB of data (RLIMIT_DATA)")
