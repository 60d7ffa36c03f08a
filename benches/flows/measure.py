"""What flows take: CPU of a thread and of the program in the kernel, memory of its tables."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SWEEPER = "mailweir-flows"
_STATS = Path("/proc/sys/kernel/bpf_stats_enabled")


def thread_cpu_ns(pid: int, name: str) -> int:
    """CPU time that the thread of this name has spent so far, in nanoseconds."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        # The kernel keeps 15 letters.
        if (task / "comm").read_text().strip() == name[:15]:
            return int((task / "schedstat").read_text().split()[0])
    raise RuntimeError(f"process {pid} has no thread {name}")


@contextmanager
def programs_counted() -> Iterator[None]:
    """The kernel measures its programs, which costs some nanoseconds a segment."""
    before = _STATS.read_text()
    _STATS.write_text("1")
    try:
        yield
    finally:
        _STATS.write_text(before)


def program_runs(pins: Path) -> int:
    """Nanoseconds that the programs have run so far whose attachments are in this folder."""
    attached = [pin for pin in pins.iterdir() if ":" in pin.name]
    links = [_bpftool("link", "show", "pinned", str(pin)) for pin in attached]
    numbers = {str(link["prog_id"]) for link in links}
    found = [_bpftool("prog", "show", "id", number) for number in numbers]
    return sum(int(one.get("run_time_ns", 0)) for one in found)


def tables_memory(pid: int) -> int:
    """What the kernel says that the tables of a process take, entries included, in bytes."""
    tables = {}
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            said = file.read_text()
        except FileNotFoundError:
            continue  # closed since
        fields = dict(re.findall(r"^(\w+):\t(\S+)$", said, re.MULTILINE))
        if "map_id" in fields:
            tables[fields["map_id"]] = int(fields["memlock"])
    return sum(tables.values())


def _bpftool(*what: str) -> dict[str, Any]:
    done = subprocess.run(["bpftool", "-j", *what], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
