"""A sandbox is one: what it forbids fails, and nothing else does."""

import sys

from harness.machine.sandbox import sandboxed
from harness.process import run

_SPLICE = """
import os
out, into = os.pipe()
os.write(into, b"all of it")
try:
    print(os.splice(out, os.pipe()[1], 9))
except OSError as error:
    print(error.errno)
"""
# Called by its number, since libc has no name for it; by a pointer to nowhere.
_IO_URING = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(425, 1, None), ctypes.get_errno())
"""
_CAPABILITIES = """
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")])
"""


def test_a_call_fails_as_it_is_told_to() -> None:
    assert _prints(_SPLICE, sandboxed("splice=EXFULL")) == "54"
    assert _prints(_SPLICE, sandboxed("bpf=EXFULL")) == "9"
    assert _prints(_IO_URING, sandboxed("io_uring_setup=EXFULL")) == "-1 54"
    assert _prints(_IO_URING, sandboxed()) != "-1 54"
    assert _prints(_IO_URING, sandboxed("io_uring_setup:1=EXFULL")) == "-1 54"
    assert _prints(_IO_URING, sandboxed("io_uring_setup:2=EXFULL")) != "-1 54"


def test_the_powerless_have_no_capability() -> None:
    assert _prints(_CAPABILITIES, sandboxed(powerless=True)) == str(["0" * 16] * 5)


def _prints(program: str, before: list[str]) -> str:
    done = run([*before, sys.executable, "-c", program])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
