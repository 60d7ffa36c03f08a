"""Listening sockets that outlive this process, in the supervisor's store (systemd.service(5)).

Who connects while no process is there waits in the queue of such a socket, and is greeted by the
next one. Part of `supervisor`; where there is none, nothing is kept.
"""

import os
import socket
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from mailweir.errors import StoreError

_FIRST = 3  # SD_LISTEN_FDS_START
# The kernel's limit for a datagram (SCM_MAX_FD).
_MOST = 253

# Whether it was told.
Tell = Callable[[Mapping[str, str], Sequence[socket.socket]], bool]

_log = structlog.get_logger("mailweir")


class Store:
    """What is kept, by whoever `tell` tells. `environment` loses what names it, so that no child
    takes it for its own.
    """

    def __init__(self, environment: dict[str, str] | os._Environ[str], tell: Tell) -> None:
        self._tell = tell
        pid, number = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
        environment.pop("LISTEN_FDNAMES", "")
        ours = pid == str(os.getpid()) and number.isascii() and number.isdigit()
        handed = [socket.socket(fileno=_FIRST + n) for n in range(int(number) if ours else 0)]
        for one in handed:
            one.set_inheritable(False)
        self._kept = [one for one in handed if _is_usable(one)]
        for one in handed:
            if one not in self._kept:
                _log.warning("a socket that was handed over is of no use", socket=repr(one))
                one.close()
        self._names = {_name(one) for one in self._kept}

    @property
    def names(self) -> tuple[str, ...]:
        """What is kept, for the next process."""
        return tuple(self._names)

    def inherit(self, names: Iterable[str]) -> None:
        """The process before this one has had these kept."""
        self._names |= {*names}

    def take(self) -> list[socket.socket]:
        """What an earlier process listened with; the caller closes it. Only the first time."""
        taken, self._kept = self._kept, []
        return taken

    def keep(self, sockets: Iterable[socket.socket]) -> None:
        """Keep these, and no others. They are closed here.

        Raises StoreError where they can't be told; who can't be told once isn't tried again now,
        since each try may wait.
        """
        by_name: defaultdict[str, list[socket.socket]] = defaultdict(list)
        for one in sockets:
            by_name[_name(one)].append(one)
        is_told = True
        for name, same in by_name.items():
            for begin in range(0, len(same), _MOST):
                part = same[begin : begin + _MOST]
                is_told = is_told and self._tell({"FDSTORE": "1", "FDNAME": name}, part)
            for one in same:
                one.close()
        for name in self._names - by_name.keys():
            self._tell({"FDSTOREREMOVE": "1", "FDNAME": name}, ())
        self._names = set(by_name)
        if not is_told:
            raise StoreError("the supervisor takes no listening sockets, or not in time")


def _is_usable(one: socket.socket) -> bool:
    """Whether it is one of ours, or could be: a worker each listens at the same address."""
    return (
        one.family in (socket.AF_INET, socket.AF_INET6)
        and one.type == socket.SOCK_STREAM
        and bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        and bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
    )


def _name(one: socket.socket) -> str:
    """Of all sockets at its address. A colon would end it (sd_notify(3))."""
    host, port = one.getsockname()[:2]
    return f"{host.replace(':', '.')}-{port}"
