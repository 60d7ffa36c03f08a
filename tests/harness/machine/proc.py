"""What the kernel says of a process in /proc: descriptors, memory, children, listening ports."""

import os
import re
from pathlib import Path

_LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp


def descriptors(pid: int) -> dict[int, str]:
    """The open descriptors of a process and what each is."""
    directory = Path(f"/proc/{pid}/fd")
    found = {}
    for name in os.listdir(directory):
        try:
            found[int(name)] = os.readlink(directory / name)
        except FileNotFoundError:
            continue  # closed since
    return found


def own_memory(pid: int) -> int:
    """What a process has of its own (RssAnon), in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def children(pid: int) -> list[int]:
    """The processes that a process has started, by any of its threads."""
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.iterdir() for child in _children_of(task)]


def listening_ports(pid: int) -> list[int]:
    """The TCP ports that a process listens on, in the order of its descriptors.

    So a program without a word for "any free port" can be given port 0, and nobody
    takes the port between our choosing it and its binding it.
    """
    by_inode = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING:
                by_inode[f"socket:[{fields[9]}]"] = int(fields[1].rpartition(":")[2], 16)
    opened = descriptors(pid)
    return [by_inode[opened[fd]] for fd in sorted(opened) if opened[fd] in by_inode]


def watched_ports(pid: int) -> dict[int, int]:
    """By the port of its other end, which of a process's epoll instances watches a connection.

    Threads that each have one of their own can so be told apart.
    """
    opened = descriptors(pid)
    by_inode = {}
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        by_inode[f"socket:[{fields[9]}]"] = int(fields[2].rpartition(":")[2], 16)
    found = {}
    for epoll in (fd for fd, what in opened.items() if what == "anon_inode:[eventpoll]"):
        info = Path(f"/proc/{pid}/fdinfo/{epoll}").read_text()
        for fd in map(int, re.findall(r"^tfd:\s+(\d+)", info, re.MULTILINE)):
            if port := by_inode.get(opened.get(fd, "")):
                found[port] = epoll
    return found


def _children_of(task: Path) -> list[str]:
    try:
        return (task / "children").read_text().split()
    except FileNotFoundError:
        return []  # a thread that has ended since
