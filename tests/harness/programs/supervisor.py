"""systemd as far as mailweir sees it: hears how the process is, and keeps its sockets."""

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.waiting import LIMIT

_HANDED = Path(__file__).with_name("handed.py")
_MOST = 253  # descriptors in a datagram


class Supervisor:
    """What it has heard and keeps, by name."""

    def __init__(self, directory: Path, heard: socket.socket, asked: socket.socket) -> None:
        self._directory = directory
        self._heard = heard
        self._asked = asked
        self._kept: dict[str, list[socket.socket]] = {}

    def before(self) -> list[str]:
        """The beginning of a command that it is to supervise: it gets what is kept now."""
        self._hear_all()
        threading.Thread(target=self._hand, args=(self.kept(),)).start()
        environment = ["env", f"NOTIFY_SOCKET={self._directory}/notify", "WATCHDOG_USEC=200000"]
        return [*environment, sys.executable, str(_HANDED), f"{self._directory}/handed"]

    def until(self, wanted: Callable[[list[str]], bool]) -> list[str]:
        """The lines of the next datagram that is wanted."""
        while True:
            said = self._hear()
            if wanted(said):
                return said

    def kept(self) -> list[socket.socket]:
        """All sockets that it keeps."""
        return [one for same in self._kept.values() for one in same]

    def close(self) -> None:
        """Forget everything."""
        for one in self.kept():
            one.close()

    def _hear_all(self) -> None:
        self._heard.settimeout(0)
        try:
            while True:
                self._hear()
        except BlockingIOError:
            self._heard.settimeout(LIMIT)

    def _hear(self) -> list[str]:
        data, descriptors, _, _ = socket.recv_fds(self._heard, 4096, _MOST)
        said = data.decode().splitlines()
        words = dict(line.partition("=")[::2] for line in said)
        if "FDSTORE" in words:
            same = self._kept.setdefault(words["FDNAME"], [])
            for one in map(_socket, descriptors):
                if any(os.path.sameopenfile(one.fileno(), there.fileno()) for there in same):
                    one.close()
                else:
                    same.append(one)
        else:
            # A barrier's: that it is closed says that all before it was heard.
            for descriptor in descriptors:
                os.close(descriptor)
        if "FDSTOREREMOVE" in words:
            for one in self._kept.pop(words["FDNAME"]):
                one.close()
        return said

    def _hand(self, kept: list[socket.socket]) -> None:
        with self._asked.accept()[0] as to:
            socket.send_fds(to, [bytes([len(kept)])], [one.fileno() for one in kept])


@contextmanager
def supervisor(directory: Path) -> Iterator[Supervisor]:
    """Its two sockets are in `directory`."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked,
    ):
        heard.bind(f"{directory}/notify")
        heard.settimeout(LIMIT)
        asked.bind(f"{directory}/handed")
        asked.listen()
        asked.settimeout(LIMIT)
        found = Supervisor(directory, heard, asked)
        try:
            yield found
        finally:
            found.close()


def _socket(descriptor: int) -> socket.socket:
    return socket.socket(fileno=descriptor)
