"""A machine of a test whose PID 1 is systemd, with the units that mailweir ships: in a network of
the test, and in namespaces of its own for everything else. Needs root and systemd.

Its root is made by `systemd_root.sh`. /etc/mailweir, /etc/systemd/system and /var/log are folders
of the test; all else that it writes is gone with it.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.named_networks import NamedNetworks
from harness.needs import missing, needs, program
from harness.process import Running, run, running
from harness.waiting import until

_HERE = Path(__file__).parent
_REPOSITORY = _HERE.parents[1]
UNITS = _REPOSITORY / "config"
# Where the root has them (`systemd_root.sh`); the machine's own places may be in somebody's home,
# which the units don't see.
_COMMAND = f"""\
#!/opt/python/bin/python{sys.version_info[0]}.{sys.version_info[1]} -I
import sys
sys.path[:0] = ["/opt/mailweir/python", "/opt/mailweir/{{packages}}"]
from mailweir.cli import main
sys.argv[0] = "mailweir"
main()
"""
_LOG = """\
[Service]
StandardOutput=append:/var/log/{name}.log
StandardError=append:/var/log/{name}.log
"""
# The first process enters a cgroup of its own, which is all that the others see of cgroups.
_ENTER = """\
mount --make-rprivate / && mount -t cgroup -o none,name=systemd systemd /mnt &&
mkdir "/mnt/$1" && echo $$ >"/mnt/$1/cgroup.procs" && umount /mnt && shift &&
exec unshare --cgroup --uts --ipc sh "$@"
"""
_LEAVE = """\
mount --make-rprivate / && mount -t cgroup -o none,name=systemd systemd /mnt &&
find "/mnt/$1" -depth -type d -exec rmdir {} +
"""
_BOOT_LIMIT = 30.0


class SystemdNode:
    """The machine, while it is on."""

    def __init__(self, name: str, folder: Path, booted: Running) -> None:
        self.name = name
        self.folder = folder
        self._booted = booted

    @property
    def pid(self) -> int:
        """Of its PID 1, as this machine knows it; 0 before it is there."""
        children = Path(f"/proc/{self._booted.pid}/task/{self._booted.pid}/children")
        found = children.read_text().split()
        return int(found[0]) if found else 0

    def run(self, *command: str, limit: float = 60.0) -> subprocess.CompletedProcess[str]:
        """What a program does there."""
        enter = [program("nsenter"), "--target", str(self.pid), "--all", "env", "-i"]
        return run([*enter, "PATH=/usr/sbin:/usr/bin", "HOME=/run", *command], limit=limit)

    def systemctl(self, *words: str) -> str:
        """What it says, where that goes well."""
        done = self.run("systemctl", *words)
        assert done.returncode == 0, f"systemctl {words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def shows(self, unit: str, key: str) -> str:
        """A property of a unit."""
        return self.systemctl("show", "--value", "--property", key, unit)

    def log(self, unit: str) -> str:
        """What the unit's processes have said."""
        file = self.folder / "log" / f"{unit}.log"
        return file.read_text() if file.exists() else ""


def prepared(name: str, folder: Path, units: tuple[str, ...]) -> Path:
    """The folders of a machine, with units that begin with it."""
    own = folder / name
    system = own / "etc" / "systemd" / "system"
    for made in (own / "etc" / "mailweir", own / "log", own / "bin", system):
        made.mkdir(parents=True)
    packages = Path(sys.prefix).relative_to(_REPOSITORY) / "lib"
    packages /= f"python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    command = own / "bin" / "mailweir"
    command.write_text(_COMMAND.format(packages=packages))
    command.chmod(0o755)
    wanted = system / "multi-user.target.wants"
    wanted.mkdir()
    for unit in UNITS.glob("*.service"):
        shutil.copy(unit, system)
        beside = system / f"{unit.name}.d"
        beside.mkdir()
        (beside / "log.conf").write_text(_LOG.format(name=unit.stem))
    for stem in units:
        (wanted / f"{stem}.service").symlink_to(f"../{stem}.service")
    return own


@contextmanager
def systemd_node(
    networks: NamedNetworks, name: str, folder: Path, *, start: int = 1
) -> Iterator[SystemdNode]:
    """The machine in the network of its name, with the folders that `prepared` made; `start` counts
    how often it was switched on.
    """
    if os.geteuid() != 0:
        missing("needs root, to be a machine")
    needs("systemd")
    group = f"{networks.name(name)}-{start}"
    root = [str(_HERE / "systemd_root.sh"), name, str(folder), str(_REPOSITORY), sys.base_prefix]
    private = [*networks.before(name), program("unshare"), "--mount", "sh", "-c"]
    with running([*private, _ENTER, "sh", group, *root], folder, f"systemd-{start}") as booted:
        node = SystemdNode(name, folder, booted)
        try:
            booted.until(lambda: node.pid, "systemd to be PID 1", limit=_BOOT_LIMIT)
            booted.until(lambda: _is_up(node), "systemd to be up", limit=_BOOT_LIMIT)
            yield node
        finally:
            # It takes no notice of TERM; its PID 1 dies with it, and all others with that.
            booted.send(signal.SIGKILL)
            booted.wait()
            until(lambda: run([*private, _LEAVE, "sh", group]).returncode == 0, "its end")


def _is_up(node: SystemdNode) -> bool:
    done = node.run("systemctl", "is-active", "multi-user.target")
    return done.stdout.strip() == "active"
