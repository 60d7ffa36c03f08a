"""Files and names of a configuration as they are read: in what order, and with which care. Used by
those modules of `config` that read.
"""

import errno
import os
import stat
import time
from contextlib import suppress
from pathlib import Path

from mailweir.errors import ConfigError, Problem, UnreadableError

# What may be over by itself, so that trying again is worth it.
_PASSING = (
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EREMOTEIO,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENOTCONN,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EINTR,
)
_PIECE = 1 << 20
# Of all files together. 10 000 servers take a tenth of it.
MAX_BYTES = 4 * 1024 * 1024


class Reading:
    """What is read at the moment, in words, and when that got on last, on time.monotonic's clock.

    For whoever waits for it in another thread.
    """

    def __init__(self) -> None:
        self._what = ""
        self.moved = time.monotonic()

    @property
    def what(self) -> str:
        """Empty between two files, while what was read is gone through."""
        return self._what

    @what.setter
    def what(self, what: str) -> None:
        self._what = what
        self.moves()

    def moves(self) -> None:
        """It gets on."""
        self.moved = time.monotonic()


def read_file(path: str | Path, limit: int, reading: Reading, *, any_kind: bool = False) -> bytes:
    """Up to `limit` bytes of a regular file, or with `any_kind` of a pipe as well.

    Raises OSError, and UnreadableError for what may be over by itself: a disk or a network that
    fails. A device or a named pipe would keep its reader waiting, also one that says of itself that
    it is a file (/proc/kmsg).
    """
    reading.what = str(path)
    try:
        return _read(path, limit, any_kind)
    except OSError as error:
        if error.errno in _PASSING:
            raise UnreadableError(f"{path} can't be read: {error.strerror}") from None
        raise
    finally:
        reading.what = ""


def read_text(path: Path, limit: int, reading: Reading, *, any_kind: bool) -> tuple[str, int]:
    """The text, and how many bytes it has, which are at most `limit`. Raises ConfigError, and what
    else `read_file` raises but OSError.
    """
    file = str(path)
    try:
        data = read_file(path, limit + 1, reading, any_kind=any_kind)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError([Problem(file, 0, 0, "", f"can't be read: {reason}")]) from None
    if len(data) > limit:
        largest = MAX_BYTES // 1024 // 1024
        message = f"the configuration is larger than {largest} MiB"
        raise ConfigError([Problem(file, 0, 0, "", message)])
    try:
        return data.decode("utf-8-sig"), len(data)
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode()) + 1
        raise ConfigError([Problem(file, line, column, "", "isn't UTF-8 text")]) from None


def look_at(path: str, reading: Reading) -> None:
    """Look at a file that somebody else will write to: a disk that hangs has it shown here, where
    whoever waits does so for a while only. Whatever else is wrong is for who writes to say.
    """
    reading.what = path
    with suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK))
    reading.what = ""


def _read(path: str | Path, limit: int, any_kind: bool) -> bytes:
    patience = 0 if any_kind else os.O_NONBLOCK
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | patience)
    try:
        if not any_kind and not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        pieces, left = [], limit
        while left and (piece := os.read(descriptor, min(left, _PIECE))):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)
