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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.needs import missing, needs, program
from harness.networks.named import NamedNetworks
from harness.process import Running, run, running
from harness.programs import remote
from harness.waiting import until

_HERE = Path(__file__).parent
_REPOSITORY = _HERE.parents[2]
UNITS = _REPOSITORY / "config"
# Where the root has them (`systemd_root.sh`); the machine's own places may be in somebody's home,
# which the units don't see.
PYTHON = f"/opt/python/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
_COMMAND = f"""\
#!{PYTHON} -I
import sys
sys.path[:0] = ["/opt/mailweir/python", "/opt/mailweir/{{packages}}"]
from mailweir.cli import main
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

    def __init__(self, name: str, folder: Path, booted: Running, at: str) -> None:
        self.name = name
        self.folder = folder
        self._booted = booted
        self._at = at

    @property
    def pid(self) -> int:
        """Of its PID 1, as this machine knows it; 0 before it is there."""
        children = Path(f"/proc/{self._booted.pid}/task/{self._booted.pid}/children")
        found = children.read_text().split()
        return int(found[0]) if found else 0

    def run(self, *command: str, limit: float = 60.0) -> subprocess.CompletedProcess[str]:
        """What a program does there."""
        return run([*self.before(), *command], limit=limit)

    def before(self) -> list[str]:
        """The beginning of a command that is run there, in a folder of its own."""
        enter = [program("nsenter"), "--target", str(self.pid), "--all", f"--wdns={self._at}"]
        return [*enter, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/run"]

    def switch_off(self) -> None:
        """Its power is gone; its network isn't told."""
        self._booted.kill()

    @contextmanager
    def remotely(self) -> Iterator[None]:
        """Commands come from another machine too (`with_ssh`)."""
        command = [
            *self.before(),
            PYTHON,
            "/opt/mailweir/tests/harness/programs/remote.py",
            "serve",
        ]
        with running(command, self.folder, "remote") as server:
            server.until(lambda: "ready" in server.out, "it to listen")
            yield
            server.kill()

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


def prepared(name: str, folder: Path, units: Sequence[str] = ()) -> Path:
    """The folders of a machine, with the units that begin with it; without any, nothing of mailweir
    is installed there but its command.
    """
    own = folder / name
    system = own / "etc" / "systemd" / "system"
    for made in (own / "etc" / "mailweir", own / "log", own / "bin", system):
        made.mkdir(parents=True)
    packages = Path(sys.prefix).relative_to(_REPOSITORY) / "lib"
    packages /= f"python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    _command(own / "bin" / "mailweir", _COMMAND.format(packages=packages))
    wanted = system / "multi-user.target.wants"
    wanted.mkdir()
    if units:
        shutil.copytree(UNITS / "sysusers.d", own / "etc" / "sysusers.d")
    for unit in UNITS.glob("*.service"):
        if units:
            shutil.copy(unit, system)
        beside = system / f"{unit.name}.d"
        beside.mkdir()
        (beside / "log.conf").write_text(_LOG.format(name=unit.stem))
    for stem in units:
        (wanted / f"{stem}.service").symlink_to(f"../{stem}.service")
    return own


def with_ssh(own: Path) -> None:
    """Give the machine of these folders an `ssh` and an `scp` to one that `remotely` serves."""
    for name in ("ssh", "scp"):
        text = Path(remote.__file__).read_text()
        _command(own / "bin" / name, f"#!{PYTHON}\n{text}")


def _command(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o755)


@contextmanager
def systemd_node(
    networks: NamedNetworks,
    name: str,
    folder: Path,
    *,
    start: int = 1,
    bare: Path | None = None,
) -> Iterator[SystemdNode]:
    """The machine in the network of its name, with the folders that `prepared` made; `start` counts
    how often it was switched on. With `bare` it is what that folder has, and nothing of this
    machine's.
    """
    if os.geteuid() != 0:
        missing("needs root, to be a machine")
    needs("systemd")
    group = f"{networks.name(name)}-{start}"
    root = [str(_HERE / "systemd_root.sh"), name, str(folder), str(_REPOSITORY), sys.base_prefix]
    if bare is not None:
        root = [str(_HERE / "bare_root.sh"), name, str(bare)]
    private = [*networks.before(name), program("unshare"), "--mount", "sh", "-c"]
    with running([*private, _ENTER, "sh", group, *root], folder, f"systemd-{start}") as booted:
        node = SystemdNode(name, folder, booted, "/" if bare else "/opt/mailweir")
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
