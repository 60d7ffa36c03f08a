"""Files of our own folder, opened so that nothing else can be in their place, and files of secrets.
Used by whoever keeps something in `state_dir` or reads a key or a password.

A symbolic link would have us write to what it names, a named pipe would keep us waiting.
"""

import errno
import os
import stat
from pathlib import Path

_NO_FILE = errno.EBADFD
# ENXIO is a named pipe that nobody reads, or a socket.
_SOMETHING_ELSE = (_NO_FILE, errno.ELOOP, errno.EISDIR, errno.ENXIO)
_CREDENTIALS = Path("/run/credentials")
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


def open_plain(path: Path, flags: int, mode: int = 0o640) -> int:
    """A descriptor of the regular file at `path`, which may be made by O_CREAT; its caller closes
    it. Raises OSError, also where something else is there.
    """
    descriptor = os.open(path, flags | _FLAGS, mode)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(_NO_FILE, "it is no regular file")
    return descriptor


def is_open_to_others(found: os.stat_result, path: Path) -> bool:
    """Whether others than its owner may read or write a secret's file.

    Of systemd's credentials the unit's user is let in by an ACL, which `stat` shows as the group's
    right; nobody else gets into their folder (systemd.exec(5), LoadCredential=).
    """
    others = found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    if found.st_uid == 0 and Path(os.path.realpath(path)).is_relative_to(_CREDENTIALS):
        others &= ~stat.S_IRGRP
    return others != 0


def is_in_the_way(error: OSError) -> bool:
    """Whether something else than a regular file is there."""
    return error.errno in _SOMETHING_ELSE


def reason(error: OSError) -> str:
    """What an operator should know of it."""
    # What O_NOFOLLOW refuses is called "Too many levels of symbolic links".
    symbolic = error.errno == errno.ELOOP
    return "it is a symbolic link" if symbolic else str(error.strerror)
