"""Tells systemd, or whoever stands in for it, how the process is: sd_notify(3).

Used by the daemon.

A datagram of a few lines to the socket that NOTIFY_SOCKET names. Where there is none, or it
can't be reached, nothing is told and nothing is different.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from mailweir.descriptors import until_readable
from mailweir.store import Store

_MICROSECONDS = 1_000_000
# Seconds for a supervisor to take sockets: one that is busy has no room for a farm's at once.
_PATIENCE = 0.5
# For it to hear what it mustn't miss.
_PATIENCE_AT_LAST = 10.0
# For it to say that it has heard everything.
_BARRIER = 0.3

_log = structlog.get_logger("mailweir")


class Supervisor:
    """The one that `environment` names, if any; what it says is taken out of there, so that no
    child takes itself for us.
    """

    def __init__(self, environment: dict[str, str] | os._Environ[str]) -> None:
        path = environment.pop("NOTIFY_SOCKET", "")
        # An abstract one is written with @ where its name has a zero byte (unix(7)).
        self._path = "\0" + path[1:] if path.startswith("@") else path
        self._told = {"NOTIFY_SOCKET": path} if path else {}
        usec, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        ours = pid in ("", str(os.getpid())) and usec.isascii() and usec.isdigit()
        # How long it waits for a sign of life, in seconds; None where it doesn't.
        self.patience = int(usec) / _MICROSECONDS if ours and int(usec) else None
        if self.patience:
            self._told["WATCHDOG_USEC"] = usec
        self.store = Store(environment, self._tell)

    @property
    def is_there(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._path)

    def ready(self, status: str) -> None:
        """The process serves; also after a reload, however that went."""
        self._tell({"READY": "1", "STATUS": status})

    def reloading(self) -> None:
        """A reload has begun."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell({"RELOADING": "1", "MONOTONIC_USEC": str(now)})

    def stopping(self, status: str) -> None:
        """The process drains, and ends after that."""
        self._tell({"STOPPING": "1", "STATUS": status})

    def extend(self, seconds: float) -> None:
        """It may take that much longer until the process has ended."""
        self._tell({"EXTEND_TIMEOUT_USEC": str(int(seconds * _MICROSECONDS))})

    @property
    def environment(self) -> Mapping[str, str]:
        """What names it, for the next process."""
        return self._told

    def hand_on(self, pid: int) -> None:
        """That process is the main one from now on; what this one says doesn't count any more.

        Waits where a supervisor is busy: one that isn't told takes our end for the unit's.
        """
        if self._path and not self._send(f"MAINPID={pid}\n".encode(), (), _PATIENCE_AT_LAST):
            _log.error("the supervisor isn't told of the next process", pid=pid)
        self._path, self.patience = "", None

    def until_heard(self) -> None:
        """Wait, a moment at most, until all that was told was heard (sd_notify_barrier(3))."""
        heard, kept = os.pipe2(os.O_CLOEXEC)
        with open(heard, "rb", buffering=0) as ear:
            with open(kept, "wb", buffering=0) as mouth:
                self._send(b"BARRIER=1\n", [mouth.fileno()])
            until_readable(ear.fileno(), _BARRIER)

    async def show_life(self, lags: Callable[[], Sequence[float]]) -> None:
        """Tell that this event loop moves, as long as some worker does as well: `lags` are the
        seconds since each did. Until it is cancelled, or at once over where nobody waits for it.
        """
        while self.patience is not None:
            if min(lags(), default=0.0) < self.patience:
                self._tell({"WATCHDOG": "1"})
            await asyncio.sleep(self.patience / 2)

    def _tell(self, words: Mapping[str, str], sockets: Sequence[socket.socket] = ()) -> bool:
        # A line's end would end the word.
        lines = (f"{key}={' '.join(value.split())}\n" for key, value in words.items())
        return self._send("".join(lines).encode(), [one.fileno() for one in sockets])

    def _send(self, said: bytes, descriptors: Sequence[int], patience: float = 0.0) -> bool:
        """Whether it was told, as far as we can know."""
        if not self._path:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told:
                # Not in the event loop where there are sockets: they may wait for their turn.
                told.settimeout(_PATIENCE if descriptors else patience)
                # Before Python 3.12 send_fds doesn't look at the address it is given.
                told.connect(self._path)
                socket.send_fds(told, [said], descriptors)
        except OSError:
            # Nobody's fault that we could mend; also where no descriptor is left.
            return False
        return True
