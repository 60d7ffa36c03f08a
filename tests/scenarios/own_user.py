"""A unit of ours without systemd: its user, its capabilities and no others, its view of the BPF
file system, which is root's alone outside. Needs root.
"""

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from configparser import RawConfigParser
from contextlib import contextmanager
from pathlib import Path

from harness.needs import program
from harness.process import running

_ROOT = Path(__file__).parents[2]
# Nobody's on any machine.
USER = 64123
_BPF = "/sys/fs/bpf"


def unit(name: str) -> RawConfigParser:
    """A unit file of ours."""
    found = RawConfigParser(strict=False)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(_ROOT / "config" / name)
    return found


@contextmanager
def as_its_unit(name: str, directory: Path) -> Iterator[list[str]]:
    """The beginning of commands that a unit would run; `directory` is its user's from here on.

    Within the block the BPF file system is another one than the machine's, and the same for all.
    """
    service = unit(name)["Service"]
    _give(directory)
    begin = [
        f"mount -t bpf -o mode=0700 bpf {_BPF}",
        *_before(service),
        "echo made",
        "exec sleep 1h",
    ]
    argv = [program("unshare"), "-m", "sh", "-ec", "\n".join(begin)]
    with running(argv, directory, "namespace") as holder:
        holder.until(lambda: holder.out == "made\n", "the namespace")
        inside = [
            program("nsenter"),
            f"--mount=/proc/{holder.pid}/ns/mnt",
            program("unshare"),
            "-m",
        ]
        script = [*_shown([Path(sys.base_prefix), Path(sys.prefix), _ROOT, directory])]
        script += [*_bound(service), f'exec {" ".join(_rights(service))} "$@"']
        yield [*inside, "sh", "-ec", "\n".join(script), "sh"]


def _give(directory: Path) -> None:
    for path in [directory, *directory.rglob("*")]:
        os.chown(path, USER, USER)


def _before(service: Mapping[str, str]) -> Iterator[str]:
    """What is done before it as root, outside."""
    begin, outside, command = service["ExecStartPre"].partition(" --mount=/proc/1/ns/mnt ")
    assert (begin, bool(outside)) == ("-+/usr/bin/nsenter", True)
    yield command.replace("mailweir ", f"{USER} ", 2)


def _bound(service: Mapping[str, str]) -> Iterator[str]:
    """What it sees elsewhere."""
    source, place = service["BindPaths"].removeprefix("-").split(":")
    yield f"mount --bind {source} {place}"


def _rights(service: Mapping[str, str]) -> Iterator[str]:
    names = service["AmbientCapabilities"].lower().split()
    only = "-all," + ",".join(f"+{name.removeprefix('cap_')}" for name in names)
    yield from (program("setpriv"), "--reuid", str(USER), "--regid", str(USER), "--clear-groups")
    for which in ("inh-caps", "ambient-caps", "bounding-set"):
        yield f"--{which}={only}"
    yield "--no-new-privs"


def _shown(paths: Sequence[Path]) -> Iterator[str]:
    """What a test needs may lie in a folder that is its own user's alone, a home for example."""
    hidden = {path: folder for path in paths if (folder := _hiding(path))}
    for number, path in enumerate(hidden):
        there = f"/run/shown-{number}"
        if number == 0:
            yield "mount -t tmpfs -o mode=0755 tmpfs /run"
        yield f"mkdir {there} && mount --bind {shlex.quote(str(path))} {there}"
    for folder in dict.fromkeys(hidden.values()):
        yield f"mount -t tmpfs -o mode=0755 tmpfs {shlex.quote(str(folder))}"
    for number, path in enumerate(hidden):
        place = shlex.quote(str(path))
        yield f"mkdir -p {place} && mount --bind /run/shown-{number} {place}"


def _hiding(path: Path) -> Path | None:
    """The first folder on the way that others can't go through."""
    way = [*reversed(path.parents), path]
    return next((one for one in way[:-1] if not one.stat().st_mode & 0o001), None)
