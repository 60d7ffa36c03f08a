"""The admin addresses as anybody may meet them: as any user, with any bytes."""

import ctypes
import os
import pwd
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness.machine.proc import listening_ports
from harness.mailweir.run import Mailweir
from harness.needs import missing
from harness.waiting import LIMIT
from mailweir.admin import client

_RESET = struct.pack("ii", 1, 0)
_libc = ctypes.CDLL(None, use_errno=True)
# Numbers of setgroups(2), setresgid(2) and setresuid(2). The kernel's are for a thread; libc has
# every thread of the process do the same, and waits for all that other tests have left.
_OF_A_THREAD = {"x86_64": (116, 119, 117), "aarch64": (159, 149, 147)}


@dataclass(frozen=True)
class User:
    """Whoever the machine has by that name, with more groups than his first."""

    name: str
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    head: str
    body: bytes


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, as /run/mailweir; pytest's own are root's alone."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def connect_as(user: User | None, path: Path) -> socket.socket:
    """A connection to a UNIX socket that somebody else makes, for all that the kernel knows."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.settimeout(LIMIT)
    try:
        with _being(user):
            stream.connect(str(path))
    except OSError:
        stream.close()
        raise
    return stream


def command_as(user: User, path: Path, method: str, route: str) -> dict[str, Any]:
    """What the command line gets, run by somebody else."""
    with _being(user):
        return client.ask(str(path), method, route)


def http_port(balancer: Mailweir) -> int:
    """Where `admin.http` is, which was to bind port 0."""
    listeners = balancer.status()["listeners"]
    mail = {address.rpartition(":")[2] for one in listeners for address in one["addresses"]}
    (port,) = {port for port in listening_ports(balancer.pid) if str(port) not in mail}
    return port


def connect_http(port: int, source: str = "127.0.0.1") -> socket.socket:
    """A connection to `admin.http`."""
    return socket.create_connection(("127.0.0.1", port), LIMIT, (source, 0))


def ask(stream: socket.socket, method: str, route: str, **headers: str) -> Answer:
    """The answer to one request; the connection is closed with it."""
    given = {"Host": "localhost", "Connection": "close", **headers}
    lines = "".join(f"{key}: {value}\r\n" for key, value in given.items())
    with stream:
        stream.sendall(f"{method} {route} HTTP/1.1\r\n{lines}\r\n".encode())
        head, _, body = rest(stream).partition(b"\r\n\r\n")
    return Answer(int(head.split(b" ", 2)[1]), head.decode(), body)


def rest(stream: socket.socket) -> bytes:
    """What comes up to the end of the stream, or its reset."""
    pieces = []
    try:
        while piece := stream.recv(64 * 1024):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


def reset(stream: socket.socket) -> None:
    """Close without a time to wait."""
    if stream.family == socket.AF_INET:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    stream.close()


@contextmanager
def _being(user: User | None) -> Iterator[None]:
    """For this thread, meanwhile. None is who we are."""
    if user is None:
        yield
        return
    if os.geteuid() != 0:
        missing("needs root, to be other users in turn")
    account, before = pwd.getpwnam(user.name), os.getgroups()
    setgroups, setresgid, setresuid = _OF_A_THREAD[os.uname().machine]
    _call(setgroups, len(user.groups), _groups(user.groups))
    _call(setresgid, -1, account.pw_gid, -1)
    _call(setresuid, -1, account.pw_uid, -1)
    try:
        yield
    finally:
        _call(setresuid, -1, 0, -1)
        _call(setresgid, -1, 0, -1)
        _call(setgroups, len(before), _groups(before))


def _groups(groups: Sequence[int]) -> ctypes.Array[ctypes.c_uint]:
    return (ctypes.c_uint * len(groups))(*groups)


def _call(number: int, *arguments: int | ctypes.Array[ctypes.c_uint]) -> None:
    if _libc.syscall(number, *arguments) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
