"""Asks the running process over the admin socket. Called by the command line.

HTTP by hand, over sockets alone: `mailweir status` has to answer in under 100 ms, and importing
the standard library's client takes 40 of them.
"""

import json
import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from mailweir.errors import MailweirError, NotRunningError

# A reload may wait for first checks and for workers; reading never takes that long.
_TIMEOUT = 60.0
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")
_OK = 200
# Whom sudo began the command for, as the command says: `access` makes a claim of it.
SUDO_HEADER = "Mailweir-Sudo-User"
# What may stand in a header; no user is called otherwise.
_USER = re.compile(r"[!-~]{1,64}", re.ASCII)


def follow(socket_path: str, route: str) -> Iterator[dict[str, Any]]:
    """The events of a stream, as they come. Ends with the process. Raises as `ask` does."""
    with _answer(socket_path, "GET", route, "text/event-stream", _TIMEOUT) as (status, body):
        if status != _OK:
            raise MailweirError(json.loads(body.read())["error"])
        for line in body:
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))


def ask(socket_path: str, method: str, route: str, *, timeout: float = _TIMEOUT) -> dict[str, Any]:
    """The JSON answer, whatever its HTTP status. Raises NotRunningError or MailweirError."""
    with _answer(socket_path, method, route, "application/json", timeout) as (_, body):
        answer: dict[str, Any] = json.loads(body.read())
        return answer


@contextmanager
def _answer(
    socket_path: str, method: str, route: str, accept: str, timeout: float
) -> Iterator[tuple[int, BinaryIO]]:
    """The status of an answer, and its body. HTTP/1.0: the body ends where the connection does."""
    head = f"{method} {route} HTTP/1.0\r\nHost: localhost\r\nAccept: {accept}\r\n{_behind()}\r\n"
    with _explained(socket_path), _connected(socket_path, timeout) as connection:
        connection.sendall(head.encode("ascii"))
        with connection.makefile("rb") as answer:
            status = _STATUS.match(answer.readline())
            if status is None:
                raise ValueError("it isn't HTTP")
            while answer.readline().strip():
                pass  # headers; nothing here depends on them
            yield int(status[1]), answer


def _behind() -> str:
    """The header that says whom sudo began this for; empty where it didn't."""
    user = os.environ.get("SUDO_USER", "")
    return f"{SUDO_HEADER}: {user}\r\n" if _USER.fullmatch(user) else ""


def private_path(socket_path: str | Path) -> Path:
    """Of the socket beside that one which root and the process's user alone may open."""
    return Path(f"{socket_path}.root")


def candidates(socket_path: str | Path) -> Iterator[str]:
    """Where to connect, the best first: the private socket has a queue of its own."""
    private = private_path(socket_path)
    try:
        # Only where it is the same process's: whoever may write to the folder could make one.
        owner = private.stat().st_uid
        if owner in (0, os.geteuid()) or owner == os.stat(socket_path).st_uid:
            yield str(private)
    except OSError:
        pass
    yield str(socket_path)


def _connected(socket_path: str, timeout: float) -> socket.socket:
    """Raises OSError; FileNotFoundError and ConnectionRefusedError where nobody is there."""
    *private, public = candidates(socket_path)
    for path in private:
        with suppress(OSError):
            return _connected_to(path, timeout)
    return _connected_to(public, timeout)


def _connected_to(path: str, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        # By the kernel's own time-out: who waits so for a place in the queue has his turn; with
        # Python's it would be an error that the queue is full.
        seconds, rest = divmod(timeout, 1)
        limit = struct.pack("ll", int(seconds), int(rest * 1e6))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        connection.connect(path)
        connection.settimeout(timeout)
    except OSError:
        connection.close()
        raise
    return connection


@contextmanager
def _explained(socket_path: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunningError(
            f"nobody answers at {socket_path}: mailweir isn't running, or has another"
            " `admin.socket` (give it with --socket or MAILWEIR_SOCKET)"
        ) from None
    except PermissionError:
        raise MailweirError(
            f"{socket_path}: permission denied; run this as root or as a member of its group"
        ) from None
    except BlockingIOError:
        raise MailweirError(
            f"{socket_path}: too many wait for an answer there; try again, or ask as root"
        ) from None
    except (OSError, ValueError) as error:
        raise MailweirError(f"{socket_path}: no usable answer: {error}") from None
