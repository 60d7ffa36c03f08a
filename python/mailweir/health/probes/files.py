"""Files that checks need: passwords and certificates. Read in a lane, since a disk may hang."""

import os
import stat
from functools import partial
from pathlib import Path

from mailweir.errors import StalledError
from mailweir.foreign import shown
from mailweir.health.probes.dial import LocalError
from mailweir.lanes import Lane
from mailweir.plainfile import is_open_to_others, open_plain, reason

LIMIT = 5.0  # seconds
_LONGEST = 1024  # bytes of a password's file

files = Lane("files of checks", width=2)


async def password(file: Path) -> str:
    """The first line of a file that others can't read. Raises LocalError; no message has a part of
    it.
    """
    try:
        return await files.call(partial(_password, file), limit=LIMIT, what="password_file")
    except StalledError as error:
        raise LocalError(str(error)) from None
    except OSError as error:
        raise LocalError(f"password_file {shown(str(file))}: {reason(error)}") from None
    except ValueError as error:
        raise LocalError(f"password_file {shown(str(file))}: {error}") from None


def _password(file: Path) -> str:
    """In the lane. Raises OSError, and ValueError where it isn't fit for use."""
    # Secrets of containers are links to the newest of several: what counts is the file behind it.
    with open(open_plain(Path(os.path.realpath(file)), os.O_RDONLY), "rb") as stream:
        found = os.fstat(stream.fileno())
        data = stream.read(_LONGEST)
    if is_open_to_others(found, file):
        mode = stat.S_IMODE(found.st_mode)
        raise ValueError(f"others than its owner can read it (mode {mode:03o}): chmod 400")
    line = data.splitlines()[0] if data else b""
    if not line:
        raise ValueError("it is empty")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ValueError("it isn't UTF-8") from None
