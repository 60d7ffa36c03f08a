"""Servers that think about each mail before they answer, and remember what they took.

A mail is taken once its final dot is there, whether or not its sender ever hears of it:
who doesn't, sends it again, and it comes twice.
"""

import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from harness.servers.scripted import Stream, serving
from harness.waiting import LIMIT

# Of a sender that thinks inside TLS.
_PATIENCE = 10 * LIMIT


class Takers:
    """What such servers took, by Message-ID, together."""

    def __init__(self, delay: float, tls: ssl.SSLContext | None = None) -> None:
        self._delay = delay  # between a final dot and its answer
        self._tls = tls  # for STARTTLS
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()
        self._left: Counter[str] = Counter()

    @contextmanager
    def server(self, name: str) -> Iterator[str]:
        """A server that greets by this name; yields its address."""
        with serving(lambda stream: self._serve(stream, name)) as address:
            yield address

    def taken(self) -> Counter[str]:
        """How often each mail came so far."""
        with self._lock:
            return self._taken.copy()

    def left(self, name: str) -> int:
        """How many sessions of a server were ended as they should be, by QUIT."""
        return self._left[name]

    def _serve(self, stream: Stream, name: str) -> None:
        stream.send(f"220 {name} ESMTP\r\n".encode())
        self._answer(stream, name)

    def _answer(self, stream: Stream, name: str) -> None:
        chunks: list[bytes] = []
        for line in iter(stream.line, b""):
            verb = line[:4].upper()
            if verb == b"QUIT":
                with self._lock:
                    self._left[name] += 1
                stream.send(b"221 bye\r\n")
                return
            if verb == b"STAR" and self._tls:
                stream.send(b"220 go\r\n")
                with self._tls.wrap_socket(stream.socket, server_side=True) as inside:
                    self._answer(Stream(inside, _PATIENCE), name)
                return
            if verb == b"DATA":
                stream.send(b"354 go\r\n")
                self._take(iter(stream.line, b".\r\n"))
            if verb == b"BDAT":
                chunk = stream.exactly(int(line.split()[1]))
                if b"LAST" in line:
                    self._take([*chunks, *chunk.splitlines(keepends=True)])
                chunks = [] if b"LAST" in line else [*chunks, *chunk.splitlines(keepends=True)]
            if verb == b"AUTH":
                for asked in (b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n"):
                    stream.send(asked)
                    stream.line()
            stream.send(b"250 ok\r\n")

    def _take(self, lines: Iterable[bytes]) -> None:
        key = ""
        for line in lines:
            if not line:
                raise ConnectionError("no final dot")
            if line.startswith(b"Message-ID: "):
                key = line.decode().split()[1]
        with self._lock:
            self._taken[key] += 1
        time.sleep(self._delay)


def mail(key: str, size: int = 0) -> str:
    """A mail with this Message-ID and about so many bytes, up to its dot."""
    text = "text" + "x" * size
    return f"Message-ID: {key}\r\nSubject: taken once\r\n\r\n{text}\r\n."
