"""CPU time of a process with its descendants, and of the whole machine."""

import os
import time
from pathlib import Path

_SCHEDULER_CLOCK = 2  # the kernel's CPUCLOCK_SCHED: exact run time, in ns


def tree_cpu_ns(pid: int) -> int:
    """CPU time spent so far by `pid` and its descendants, all threads, ended ones included."""
    return sum(_process_cpu_ns(member) for member in _tree(pid))


def machine_cpu_ns() -> int:
    """CPU time spent so far by everything on the machine, interrupts included."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.readline().split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq = fields[:7]
    ticks = user + nice + system + irq + softirq
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def _process_cpu_ns(pid: int) -> int:
    # clock_getcpuclockid(3) computes the same; Python has no binding for it. Unlike
    # /proc/PID/stat this clock does not count in ticks of 10 ms.
    return time.clock_gettime_ns((~pid << 3) | _SCHEDULER_CLOCK)


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may contain anything; what follows it does not.
            parent = int(
                stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
            )
        except OSError:
            continue  # ended while we looked
        children.setdefault(parent, []).append(int(stat.parent.name))
    members = [root]
    for member in members:
        members.extend(children.get(member, []))
    return members
