"""Debian's OpenSMTPD, out of its package and beside an installed MTA, which excludes it.

Needs root, the libraries of LIBRARIES, and mounts of its own. Without TLS: Debian 12's answers
every client's handshake with an internal error here (OpenSSL 3).
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from harness.needs import missing, private_mounts, unpacked
from harness.networks.ports import SERVER_HOST, unused_port
from harness.process import Running, running
from harness.waiting import until

LIBRARIES = ("libdb5.3", "libevent-2.1-7")
_NUMBER = 64997  # no user's and no group's of Debian, nor the next one
_USERS = ("opensmtpd", "opensmtpq")

_CONFIGURATION = """\
action "nowhere" relay host smtp://127.0.0.1:9
match from any for any action "nowhere"
"""

# Where it keeps things is built in.
_BEGIN = """\
mount --bind "$0/passwd" /etc/passwd && mount --bind "$0/group" /etc/group &&
mount -t tmpfs own /var/spool && mkdir -m 711 /var/spool/smtpd &&
mount -t tmpfs own /var/lib && mkdir -p /var/lib/opensmtpd/empty &&
mount -t tmpfs own /run && mount --bind "$0/opensmtpd/usr/libexec" /usr/libexec && exec "$@"
"""


class OpenSmtpd(NamedTuple):
    """It while it runs."""

    address: str
    process: Running

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self.process.err + self.process.out


@contextmanager
def opensmtpd(directory: Path) -> Iterator[OpenSmtpd]:
    """It takes mail for anybody."""
    with opensmtpd_files() as home, listening(directory, home) as found:
        yield found


@contextmanager
def opensmtpd_files() -> Iterator[Path]:
    """Where it is unpacked; its package comes over the network."""
    if os.geteuid() != 0:
        missing("needs root, to run OpenSMTPD")
    # Not below pytest's folder: the users that it becomes can't enter that.
    home = Path(tempfile.mkdtemp(prefix="mailweir-opensmtpd-"))
    try:
        home.chmod(0o755)
        unpacked("opensmtpd", home)
        passwd, group = Path("/etc/passwd").read_text(), Path("/etc/group").read_text()
        for number, user in enumerate(_USERS, _NUMBER):
            passwd += f"{user}:x:{number}:{number}::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n"
            group += f"{user}:x:{number}:\n"
        (home / "passwd").write_text(passwd)
        (home / "group").write_text(group)
        yield home
    finally:
        shutil.rmtree(home)


@contextmanager
def listening(directory: Path, home: Path, addresses: Sequence[str] = ()) -> Iterator[OpenSmtpd]:
    """It with these files, at a free port or at `addresses`, the first of which is its address."""
    file = home / "smtpd.conf"
    addresses = addresses or [f"{SERVER_HOST}:{unused_port()}"]
    places = (one.rpartition(":") for one in addresses)
    listen = [f"listen on {host} port {port} hostname mx.test\n" for host, _, port in places]
    file.write_text("".join([*listen, _CONFIGURATION]))
    command: list[str | Path] = [
        *private_mounts(),
        "sh",
        "-c",
        _BEGIN,
        home,
        home / "opensmtpd/usr/sbin/smtpd",
        "-d",
        "-f",
        file,
    ]
    with running(command, directory, "opensmtpd") as process:
        found = OpenSmtpd(addresses[0], process)
        until(lambda: "starting" in found.log, "OpenSMTPD to start")
        yield found
