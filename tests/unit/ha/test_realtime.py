"""The rights that a process of the pair keeps, and the precedence that it has."""

import os
import subprocess
import sys

import pytest

from harness.needs import missing

_PROGRAM = """
import ctypes, os, sys, threading
from mailweir.ha import realtime
realtime.drop_rights(*map(int, sys.argv[1:]))
def show():
    status = open(f"/proc/self/task/{threading.get_native_id()}/status").read()
    found = dict(line.split(":\\t") for line in status.splitlines() if line.startswith("Cap"))
    print(*(found[key] for key in ("CapEff", "CapPrm", "CapBnd")))
show()
thread = threading.Thread(target=show)
thread.start()
thread.join()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


@pytest.mark.parametrize(
    ("kept", "mask"), [((12, 13), "0000000000003000"), ((), "0000000000000000")]
)
def test_only_those_are_left(kept: tuple[int, ...], mask: str) -> None:
    if os.geteuid() != 0:
        missing("needs root, to have rights to drop")
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *map(str, kept)], capture_output=True, text=True
    )
    one, of_thread, dumpable = done.stdout.splitlines()
    assert one == of_thread == f"{mask} {mask} {mask}", done.stderr
    assert dumpable == "0"


_HURRIES = """
import os, threading
from mailweir.ha import realtime
over = threading.Event()
thread = threading.Thread(target=over.wait)
thread.start()
problems = [one for one in realtime.hurry() if "real-time" in one]
print(os.sched_getscheduler(thread.native_id) == os.SCHED_RR, *problems)
over.set()
"""


def test_threads_that_are_there_hurry_too() -> None:
    done = subprocess.run([sys.executable, "-c", _HURRIES], capture_output=True, text=True)
    is_so, *problems = done.stdout.split(maxsplit=1)
    if problems:
        missing(f"needs to be allowed it: {problems[0]}")
    assert is_so == "True", done.stderr
