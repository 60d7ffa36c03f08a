"""Runs a program with system calls that fail, as they do where a kernel, a container or a limit
forbids them; and without any privilege that root has.

python sandbox.py [--powerless] CALL[:FIRST-ARGUMENT]=ERRNO ... -- COMMAND. Standard library only.
"""

import argparse
import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

# linux: asm/unistd_64.h and asm-generic/unistd.h.
_NUMBERS = {
    "x86_64": {
        **{"splice": 275, "bpf": 321},
        **{"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427},
    },
    "aarch64": {
        **{"splice": 76, "bpf": 280},
        **{"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427},
    },
}
# linux: audit.h, seccomp.h, bpf_common.h, prctl.h.
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
_DROP_FROM_BOUNDING_SET = 24


def sandboxed(*fails: str, powerless: bool = False) -> list[str]:
    """The beginning of a command for which these calls fail: `splice=EINVAL`, `bpf:28=EINVAL`.

    A `powerless` one has no capabilities, whoever's it is.
    """
    return [sys.executable, __file__, *(["--powerless"] if powerless else []), *fails, "--"]


def _fail(calls: list[tuple[int, int | None, int]]) -> None:
    """From here on each of these calls fails with its error, in what is executed too.

    With a first argument, only those that have that one.
    """
    machine = platform.machine()
    program = [(_LOAD, 0, 0, 4), (_IF_EQUAL, 1, 0, _ARCHITECTURE[machine]), (_RETURN, 0, 0, _ALLOW)]
    for number, argument, error in calls:
        program.append((_LOAD, 0, 0, 0))
        if argument is not None:
            program += [(_IF_EQUAL, 0, 3, number), (_LOAD, 0, 0, 16)]
            number = argument
        program += [(_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _FAIL | error)]
    program.append((_RETURN, 0, 0, _ALLOW))
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    head = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    )
    _prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    _prctl(_SET_SECCOMP, _FILTER, head, 0, 0)


def _drop_capabilities() -> None:
    """What is executed from here on can have none."""
    if os.geteuid() != 0:
        return  # it has none anyway
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in range(last + 1):
        _prctl(_DROP_FROM_BOUNDING_SET, capability, 0, 0, 0)


def _prctl(*arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(*arguments):
        raise OSError(ctypes.get_errno(), "prctl")


def _main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--powerless", action="store_true")
    parser.add_argument("fails", nargs="*")
    split = arguments.index("--")
    options, command = parser.parse_args(arguments[:split]), arguments[split + 1 :]
    if options.powerless:
        _drop_capabilities()
    numbers = _NUMBERS[platform.machine()]
    calls = []
    for fail in options.fails:
        call, error = fail.split("=")
        name, _, argument = call.partition(":")
        calls.append((numbers[name], int(argument) if argument else None, getattr(errno, error)))
    if calls:
        _fail(calls)
    os.execvp(command[0], list(command))  # noqa: S606 - what it is for


if __name__ == "__main__":
    _main(sys.argv[1:])
