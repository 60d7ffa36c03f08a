"""mailweir before two servers, while its process is replaced by the next one."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.clients.smtpload import Smtpload
from harness.mailweir.kernel_rig import PORT, rig_configuration
from harness.mailweir.run import Mailweir, Tree
from harness.networks.row import SERVER, Row, row
from harness.waiting import until

SERVERS = {"a": f"{SERVER}:{PORT}", "b": f"{SERVER}:{PORT + 1}"}
_UPGRADE_LIMIT = 60.0  # seconds


@contextmanager
def farm_of_two(directory: Path, binary: Path, name: str = "mailweir") -> Iterator[Row]:
    """Networks, and two servers that take every message."""
    with row(name) as networks:
        servers = Smtpload(binary, directory, networks.before("s"))
        with servers.sink("servers", listen=tuple(SERVERS.values())):
            yield networks


def farm_configuration(directory: Path, **more: object) -> Tree:
    """These two, checked once."""
    config = rig_configuration(directory, **more)
    config["pools"]["farm"]["servers"] = {
        name: {"address": address, "proxy": "off"} for name, address in SERVERS.items()
    }
    return config


def upgrade(balancer: Mailweir) -> int:
    """The process that serves afterwards."""
    before = balancer.status()["pid"]
    done = balancer.command("upgrade", limit=_UPGRADE_LIMIT)
    assert (done.returncode, done.stderr) == (0, ""), balancer.process.err[-4000:]
    after: int = balancer.status()["pid"]
    assert after != before
    assert f"process {after} serves" in done.stdout
    return after


@contextmanager
def upgradable(balancer: Mailweir) -> Iterator[None]:
    """Whoever has taken over from it in the end ends with the block."""
    try:
        yield
    finally:
        last = balancer.status()["pid"]
        if last != balancer.pid:
            os.kill(last, signal.SIGTERM)
            until(lambda: not lives(last), "the last process to end")


def lives(pid: int) -> bool:
    """Whether it runs. It isn't our child: nobody waits for it but its own parent, or PID 1."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
