"""Asks the running process over the admin socket. Called by the command line.

HTTP by hand, over sockets alone: `mailweir status` has to answer in under 100 ms, and importing
the standard library's client takes 40 of them.
"""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from mailweir.errors import MailweirError, NotRunningError

# A reload may wait for first checks and for workers; reading never takes that long.
_TIMEOUT = 60.0
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")
_OK = 200


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
    head = f"{method} {route} HTTP/1.0\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n"
    with _explained(socket_path), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(socket_path)
        connection.sendall(head.encode("ascii"))
        with connection.makefile("rb") as answer:
            status = _STATUS.match(answer.readline())
            if status is None:
                raise ValueError("it isn't HTTP")
            while answer.readline().strip():
                pass  # headers; nothing here depends on them
            yield int(status[1]), answer


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
    except (OSError, ValueError) as error:
        raise MailweirError(f"{socket_path}: no usable answer: {error}") from None
