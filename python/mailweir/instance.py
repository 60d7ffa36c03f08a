"""Which instance of mailweir this is, and that it is the only one. Taken before anything else.

SO_REUSEPORT would let two processes share a port silently, each with half of the
sessions and its own idea of the limits.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from mailweir.errors import StartError
from mailweir.plainfile import is_in_the_way, open_plain, reason


def instance_of(state_dir: Path) -> str:
    """A word that no two processes of a machine share: none shares its folder."""
    return sha256(bytes(state_dir)).hexdigest()[:12]


@contextmanager
def only_instance(state_dir: Path) -> Iterator[None]:
    """Hold the lock of `state_dir`, which is made where it is missing. Raises StartError.

    The kernel gives the lock back when the process ends, however it does.
    """
    path = state_dir / "lock"
    with _explained(path):
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        descriptor = open_plain(path, os.O_RDWR | os.O_CREAT)
    try:
        with _explained(path):
            _lock(descriptor, state_dir)
            # It is no link, and what is open is our own: nobody else's file loses what is in it.
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = f"make {path.parent} with this user as its owner"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "make room there"
        elif is_in_the_way(error):
            remedy = "remove it"
        raise StartError(
            f"state_dir: {path} can't be written: {reason(error)}; {remedy}, or choose another"
            " `state_dir`"
        ) from None


def _lock(descriptor: int, state_dir: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        raise StartError(
            f"mailweir runs already with state_dir {state_dir} (pid {holder or 'unknown'});"
            " stop it first, or give this one a `state_dir` of its own"
        ) from None
