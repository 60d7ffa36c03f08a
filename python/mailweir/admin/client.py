"""Asks the running process over the admin socket. Called by the command line.

Standard library only: `mailweir status` has to answer in under 100 ms, and importing
an HTTP client alone costs more than that.
"""

import http
import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mailweir.errors import MailweirError, NotRunningError

# A reload may wait for first checks and for workers; reading never takes that long.
_TIMEOUT = 60.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def follow(socket_path: str, route: str) -> Iterator[dict[str, Any]]:
    """The events of a stream, as they come. Ends with the process. Raises as `ask` does."""
    connection = _UnixConnection(socket_path, _TIMEOUT)
    with _explained(socket_path):
        try:
            connection.request("GET", route, headers={"Accept": "text/event-stream"})
            answer = connection.getresponse()
            if answer.status != http.HTTPStatus.OK:
                raise MailweirError(json.loads(answer.read())["error"])
            for line in answer:
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))
        finally:
            connection.close()


def ask(socket_path: str, method: str, route: str, *, timeout: float = _TIMEOUT) -> dict[str, Any]:
    """The JSON answer, whatever its HTTP status. Raises NotRunningError or MailweirError."""
    connection = _UnixConnection(socket_path, timeout)
    with _explained(socket_path):
        try:
            connection.request(method, route)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()


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
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise MailweirError(f"{socket_path}: no usable answer: {error}") from None
