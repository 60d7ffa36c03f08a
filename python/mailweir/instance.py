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
def only_instance(state_dir: Path, held: int | None = None) -> Iterator[int]:
    """Hold the lock of `state_dir`, which is made where it is missing; its descriptor. Raises
    StartError.

    `held` is that of the process before this one, which lives: they are one instance. It is closed
    here. The kernel gives the lock back when the last process that has it ends, however it does.
    """
    path = state_dir / "lock"
    with _explained(path):
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        descriptor = open_plain(path, os.O_RDWR | os.O_CREAT)
        if held is not None:
            if os.path.sameopenfile(held, descriptor):
                os.dup2(held, descriptor, inheritable=False)
            os.close(held)
    try:
        with _explained(path):
            _lock(descriptor, state_dir)
            # It is no link, and what is open is our own: nobody else's file loses what is in it.
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def give_back(descriptor: int) -> None:
    """The lock is the next process's alone from now on, so that it is free when that dies. The
    number stays taken: it is closed later.
    """
    nothing = os.eventfd(0)
    os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)


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
