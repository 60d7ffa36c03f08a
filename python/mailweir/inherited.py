"""What a process has from whoever started it, where that would harm it. Mended by the command line
before anything else.
"""

import ctypes
import os
import resource
import signal
import sys
from typing import TextIO

from mailweir import descriptors
from mailweir.errors import StartError

# Of a long-running process: all that it acts on.
_HEARD = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
# Event loop, worker threads, admin and mail sockets take some 30 with two workers. With less than
# this what fails first is anybody's guess.
_LEAST_DESCRIPTORS = 64
# malloc.h.
_M_ARENA_MAX = -8


def ensure_standard_streams() -> None:
    """Have standard input, output and error be something.

    Where one is closed, the next file or connection would get its number, and what is meant for
    standard error would be written there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            os.set_inheritable(number, True)
    # Python has none of those that were closed.
    sys.stdout = sys.stdout or _nowhere(1)
    sys.stderr = sys.stderr or _nowhere(2)


def _nowhere(number: int) -> TextIO:
    return open(number, "w", encoding="utf-8", closefd=False)


def hear_signals() -> None:
    """Take those that we act on out of the mask of this thread, and of those that it starts."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)


def need_descriptors() -> None:
    """Raises StartError where the limit is too low for anything."""
    limit = descriptors.raise_limit()
    if limit < _LEAST_DESCRIPTORS:
        raise StartError(
            f"the process may have {limit} descriptors (RLIMIT_NOFILE); it needs"
            f" {_LEAST_DESCRIPTORS} at least, and two for each session: raise LimitNOFILE of its"
            " unit, or `ulimit -n` of who starts it"
        )


def spare_address_space() -> None:
    """Where that is limited (RLIMIT_AS), have malloc share what it reserves among threads: 64 MiB
    for each (mallopt(3)) leave nothing for sessions, and a process that can't allocate is gone.
    """
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        # glibc's; others reserve nothing so.
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, 1)
