"""The place of an admin socket in the file system: taken, looked at, given back. Used by `server`.

There are two: the one that is configured, and beside it one that root and the process's own user
alone may open. A crowd at the first keeps nobody out of the second: each has a queue of its own.

All of it may wait for a disk, so it is called in a lane.
"""

import os
import socket
import stat
from enum import Enum, auto
from pathlib import Path

from mailweir.errors import StartError

# Owner and group; others may not even ask.
CLOSED = 0o660
# Root and the process's own user.
PRIVATE = 0o600
# Who connects while so many wait for their turn has to ask again. More wait longer, at some 100 us
# each.
BACKLOG = 512


class Found(Enum):
    """What is at the path of a socket."""

    OURS = auto()
    NOTHING = auto()
    ANOTHER = auto()


class Place:
    """A listening UNIX socket at `path`, which is ours as long as it is the very one we made."""

    def __init__(
        self, path: Path, mode: int, part: str, inherited: socket.socket | None = None
    ) -> None:
        """Raises StartError. What is left of a process that died is replaced; a socket that
        answers is not. `part` is the key of the configuration that has `socket`. `inherited` is the
        socket itself, of the process before this one.
        """
        self.path = path
        self.part = part
        self.socket = inherited or bind_unix(path, mode, part=part)
        found = path.lstat()
        self._made = (found.st_dev, found.st_ino)
        if inherited is not None:
            inherited.setblocking(False)
            self.change_mode(mode)

    def find(self) -> "Found":
        """What is there now."""
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return Found.NOTHING
        return Found.OURS if (found.st_dev, found.st_ino) == self._made else Found.ANOTHER

    def change_mode(self, mode: int) -> os.stat_result:
        """Give it other permissions; what it has otherwise. Raises OSError, also where something
        else is there.
        """
        # By a descriptor: what is looked at is what is changed.
        descriptor = os.open(self.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if (found.st_dev, found.st_ino) != self._made:
                raise FileNotFoundError(0, "another file is in its place")
            os.chmod(f"/proc/self/fd/{descriptor}", mode)
        finally:
            os.close(descriptor)
        return found

    def give_back(self) -> None:
        """Take it away, if it is ours. Who listened has closed it."""
        if self.find() is Found.OURS:
            self.path.unlink(missing_ok=True)


def bind_unix(path: Path, mode: int = CLOSED, *, part: str = "admin") -> socket.socket:
    """A listening UNIX socket at `path`. Raises StartError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as error:
        raise StartError(
            f"{part}.socket: {path.parent} can't be made: {error.strerror}; make it with this"
            f" user as its owner, or choose another `{part}.socket`"
        ) from None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        _remove_stale(path, part)
        # Closed to all until it has its mode: between the two nobody gets in.
        os.fchmod(sock.fileno(), 0)
        sock.bind(str(path))
        path.chmod(mode)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise StartError(f"{part}.socket: {path} can't be bound: {error.strerror}") from None
    except StartError:
        sock.close()
        raise
    return sock


def _remove_stale(path: Path, part: str) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(f"{part}.socket: {path} is there and isn't a socket; remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # Who has a full queue lives as well.
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass
    raise StartError(f"{part}.socket: another process answers at {path}; is mailweir running?")
