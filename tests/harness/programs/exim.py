"""Debian's Exim as a sender or a server, out of its package and beside an installed MTA, which
excludes it.

Needs root, the libraries of LIBRARIES, and a spool of its own.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from harness.machine.proc import listening_ports
from harness.needs import missing, private_mounts, unpacked
from harness.process import running
from harness.servers.scripted import Stream, serving
from harness.waiting import LIMIT, until

# Of exim4-daemon-light; an MTA of its own isn't among them.
LIBRARIES = ("libdb5.3", "libgnutls-dane0", "libidn12", "libnsl2", "libpcre2-8-0")
# Of exim4-daemon-heavy, which is the one of Debian's that knows PROXY headers, beside those.
HEAVY_LIBRARIES = (
    *LIBRARIES,
    *("libldap-2.5-0", "libmariadb3", "libperl5.36", "libpq5", "libsasl2-2", "libspf2-2"),
    "libsqlite3-0",
)
_USER = "Debian-exim"
_NUMBER = 64999  # no user's and no group's of Debian

_CONFIGURATION = """\
exim_path = {exim}
spool_directory = {home}/spool
log_file_path = {home}/log/%s
primary_hostname = client.test
message_size_limit = 100M
keep_environment =
host_lookup =

begin routers
onward:
  driver = manualroute
  route_list = * {relay}
  self = send
  transport = onward

begin transports
onward:
  driver = smtp
  {transport}
"""

# What it knows its user by, for it alone: without one of that name it doesn't run.
_KNOWN = """\
mount --bind "$0/passwd" /etc/passwd && mount --bind "$0/group" /etc/group && exec "$@"
"""


_SERVER = """\
exim_path = {exim}
spool_directory = {home}/spool
log_file_path = {home}/log/%s
primary_hostname = mx.test
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
{settings}
"""


class Exim:
    """Exim where nobody else uses it."""

    def __init__(self, home: Path, program: Path, before: Sequence[str]) -> None:
        self._home = home
        self._program = program
        self._before = [*before, *private_mounts(), "sh", "-c", _KNOWN, str(home)]

    @property
    def log(self) -> str:
        """Its main log so far."""
        return (self._home / "log" / "main").read_text()

    def command(self, name: str, relay: str, transport: str) -> list[str]:
        """Sends the mail that it reads to `relay` before it ends, with an option of the transport.

        What differs has another name.
        """
        file = self._home / f"{name}.conf"
        text = _CONFIGURATION.format(
            exim=self._program, home=self._home, relay=relay, transport=transport
        )
        file.write_text(text)
        return [*self._before, str(self._program), "-C", str(file), "-odf", "-oi"]

    def serving(self, name: str, settings: str) -> AbstractContextManager[str]:
        """A server with these lines of its configuration, as inetd would start it; its address."""
        file = self._home / f"{name}.conf"
        text = _SERVER.format(exim=self._program, home=self._home, settings=settings)
        file.write_text(text)
        command = [*self._before, str(self._program), "-C", str(file), "-bs"]

        def handle(stream: Stream) -> None:
            stream.socket.setblocking(True)
            own = stream.socket.fileno()
            subprocess.run(command, stdin=own, stdout=own, stderr=subprocess.DEVNULL, timeout=LIMIT)

        return serving(handle)

    @contextmanager
    def listening(
        self, directory: Path, name: str, settings: str, *addresses: str
    ) -> Iterator[str]:
        """The same as a daemon, which counts its connections, at IPv4 addresses with a port: it
        has no word for any free port. The first of them is its address.
        """
        file = self._home / f"{name}.conf"
        text = _SERVER.format(exim=self._program, home=self._home, settings=settings)
        file.write_text(text)
        places = " : ".join(one.replace(":", ".") for one in addresses)
        where = ["-bdf", "-oX", places]
        command = [*self._before, str(self._program), "-C", str(file), *where]
        with running(command, directory, name) as process:
            process.until(lambda: listening_ports(process.pid), "Exim to listen")
            yield addresses[0]


@contextmanager
def exim(before: Sequence[str] = (), package: str = "exim4-daemon-light") -> Iterator[Exim]:
    """Exim, whose commands `before` begins, of one of Debian's packages."""
    if os.geteuid() != 0:
        missing("needs root, to run Exim")
    # Not below pytest's folder: the user that Exim becomes can't enter that.
    home = Path(tempfile.mkdtemp(prefix="mailweir-exim-"))
    try:
        home.chmod(0o755)
        files = unpacked(package, home)
        for name in ("spool", "log"):
            (home / name).mkdir()
            os.chown(home / name, _NUMBER, _NUMBER)
        nobody = ":/nonexistent:/usr/sbin/nologin"
        passwd, group = Path("/etc/passwd").read_text(), Path("/etc/group").read_text()
        (home / "passwd").write_text(f"{passwd}{_USER}:x:{_NUMBER}:{_NUMBER}:{nobody}\n")
        (home / "group").write_text(f"{group}{_USER}:x:{_NUMBER}:\n")
        yield Exim(home, files / "usr/sbin/exim4", before)
    finally:
        # What delivers ends by itself, behind the daemon.
        until(lambda: _is_removed(home), "Exim's last process to leave its folder")


def _is_removed(folder: Path) -> bool:
    with suppress(OSError):
        shutil.rmtree(folder)
    return not folder.exists()
