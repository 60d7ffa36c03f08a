"""Mounts of a process of its own: what it mounts nobody else sees (mount_namespaces(7))."""

import ctypes
import os

_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
_BPF_FILES = b"/sys/fs/bpf"


def own_mounts() -> None:
    """For this process and its children, with an empty BPF file system; where it may not, it goes
    on with the machine's.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() or libc.unshare(_CLONE_NEWNS):
        return
    _mount(libc, b"none", b"/", None, _MS_REC | _MS_PRIVATE)
    if os.path.isdir(_BPF_FILES):
        _mount(libc, b"bpf", _BPF_FILES, b"bpf", 0)


def _mount(libc: ctypes.CDLL, what: bytes, at: bytes, kind: bytes | None, flags: int) -> None:
    if libc.mount(what, at, kind, ctypes.c_ulong(flags), None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(at))
