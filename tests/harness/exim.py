"""Debian's Exim as a sender, out of its package and beside an installed MTA, which excludes it.

Needs root, the libraries of LIBRARIES, and a spool of its own.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.needs import missing, private_mounts, unpacked

# Of exim4-daemon-light; an MTA of its own isn't among them.
LIBRARIES = ("libdb5.3", "libgnutls-dane0", "libidn12", "libnsl2", "libpcre2-8-0")
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


class Exim:
    """Exim where nobody else uses it."""

    def __init__(self, home: Path, program: Path, before: Sequence[str]) -> None:
        self._home = home
        self._program = program
        self._before = [*before, *private_mounts(), "sh", "-c", _KNOWN, str(home)]

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


@contextmanager
def exim(before: Sequence[str] = ()) -> Iterator[Exim]:
    """Exim, whose commands `before` begins."""
    if os.geteuid() != 0:
        missing("needs root, to run Exim")
    # Not below pytest's folder: the user that Exim becomes can't enter that.
    home = Path(tempfile.mkdtemp(prefix="mailweir-exim-"))
    try:
        home.chmod(0o755)
        package = unpacked("exim4-daemon-light", home)
        for name in ("spool", "log"):
            (home / name).mkdir()
            os.chown(home / name, _NUMBER, _NUMBER)
        nobody = ":/nonexistent:/usr/sbin/nologin"
        passwd, group = Path("/etc/passwd").read_text(), Path("/etc/group").read_text()
        (home / "passwd").write_text(f"{passwd}{_USER}:x:{_NUMBER}:{_NUMBER}:{nobody}\n")
        (home / "group").write_text(f"{group}{_USER}:x:{_NUMBER}:\n")
        yield Exim(home, package / "usr/sbin/exim4", before)
    finally:
        shutil.rmtree(home)
