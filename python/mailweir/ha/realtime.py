"""Has the process run at once when a heartbeat is due, however busy the machine is, and with no
more rights than it uses. Called by the command line before there are other threads: what is set
here is a thread's own, and those that it starts have it from it.

What isn't allowed is done without, and said.
"""

import ctypes
import gc
import os
import resource
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress

# Linux: capability.h, prctl.h, mman.h.
NET_ADMIN, NET_RAW = 12, 13
_CAPABILITY_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP = 24
_PR_SET_DUMPABLE = 4
_LAST_CAPABILITY = 63
_MCL_CURRENT, _MCL_FUTURE = 1, 2
# Of 1 to 99; the kernel's own watchdogs are at 99.
_PRIORITY = 10

_libc = ctypes.CDLL(None, use_errno=True)


def prepare(*kept: int) -> list[str]:
    """Hurry, and keep these capabilities alone. Returns what couldn't be done, and why."""
    problems = list(_hurry())
    _drop_rights(kept)
    return problems


def _hurry() -> Iterator[str]:
    """Take precedence (SCHED_RR) and stay in memory."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))
    except OSError as error:
        yield f"no real-time scheduling: {error.strerror}"
    # What comes later counts too, stacks of threads say, and isn't to be had where that is limited.
    limited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY
    if _libc.mlockall(_MCL_CURRENT | (0 if limited else _MCL_FUTURE)):
        yield f"memory can be paged out: {os.strerror(ctypes.get_errno())}"
    # What is there by now stays to the end; the collector needn't look at it again.
    gc.collect()
    gc.freeze()


def _drop_rights(kept: Collection[int]) -> None:
    """For children too; memory, with keys in it, shows in no dump."""
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    for number in range(_LAST_CAPABILITY + 1):
        if number not in kept:
            # Without CAP_SETPCAP it can't be dropped, and there is nothing to drop mostly.
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    with suppress(OSError):
        _set_capabilities(sum(1 << number for number in kept))


def _set_capabilities(wanted: int) -> None:
    """Those of them that we have, and no other (capset(2), for this thread)."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(24)
    if _libc.capget(header, data):
        raise OSError(ctypes.get_errno(), "capget")
    found = struct.unpack("=6I", data.raw[:24])
    permitted = (found[1] | found[4] << 32) & wanted
    low, high = permitted & 0xFFFF_FFFF, permitted >> 32
    left = struct.pack("=6I", low, low, 0, high, high, 0)
    if _libc.capset(header, ctypes.create_string_buffer(left)):
        raise OSError(ctypes.get_errno(), "capset")
