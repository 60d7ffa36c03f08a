"""What bpf(2) does to links that are pinned: somebody takes a program off, and its pin stays."""

import ctypes
import os
import platform
import struct
from pathlib import Path

_NUMBER = {"x86_64": 321, "aarch64": 280}  # linux: asm/unistd_64.h and asm-generic/unistd.h
_OBJ_GET, _LINK_DETACH = 7, 34  # linux/bpf.h


def take_off(pin: Path) -> None:
    """Detach a program, whoever holds its link."""
    name = ctypes.create_string_buffer(bytes(pin))
    link = _bpf(_OBJ_GET, struct.pack("QII", ctypes.addressof(name), 0, 0))
    try:
        _bpf(_LINK_DETACH, struct.pack("I", link))
    finally:
        os.close(link)


def _bpf(command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attributes)
    done = libc.syscall(_NUMBER[platform.machine()], command, buffer, len(attributes))
    if done < 0:
        raise OSError(ctypes.get_errno(), f"bpf({command})")
    return int(done)
