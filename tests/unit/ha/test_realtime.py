"""The rights that a process of the pair keeps, and the precedence that it has."""

import os
import subprocess
import sys

import pytest

from harness.needs import missing

_PROGRAM = """
import ctypes, os, sys, threading
from mailweir.ha import realtime
realtime.prepare(*map(int, sys.argv[1:]))
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
