"""Keeps a flood of datagrams from being work: while so much comes for nothing that it costs, the
kernel passes on what can be news by its numbers, and of the rest one in some.

Nothing is lost by that. The peer's datagrams have numbers above those heard, and once a new life of
it was heard at all, it proves itself by an echo of ours. What is passed on has to be authentic as
before; the numbers are only the cheapest thing to look at. Called by `agent`.
"""

import ctypes
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from mailweir.ha.links import Links
from mailweir.ha.machine.wire import ECHO_AT, LIFE_AT, LONGEST, SIZE

# Of what can't be news so much is passed on, one in: for counts, and to hear of new lives.
SAMPLE = 16
# Datagrams refused in a second that make a flood of it. A peer sends some ten.
_MANY = 1000.0
_LOOKED_EVERY = 0.1
# Linux: asm-generic/socket.h, filter.h.
_ATTACH, _DETACH = 26, 27
_UDP = 8  # bytes of its header, where what the filter sees begins
_LOAD, _LOAD_LENGTH, _AND, _RETURN = 0x20, 0x80, 0x54, 0x06
_IF_EQUAL, _IF_ABOVE, _IF_AT_LEAST = 0x15, 0x25, 0x35
_RANDOM = 0xFFFFF000 + 56
_ACCEPT, _DROP = 0xFFFF, 0
_STEP = struct.Struct("=HBBI")

# Of a link: the peer's life and the number heard last, our own life and the number echoed last.
Heard = tuple[int, int, int, int]


class Flood:
    """Is told of each time that was read."""

    def __init__(self, links: Links, heard: Callable[[int], Heard]) -> None:
        self._links = links
        self._heard = heard
        self._looked_at = float("-inf")
        self._refused = 0
        self._filters: dict[int, Heard] = {}
        self.is_on = False

    def look(self, now: float) -> None:
        """After something has come."""
        past = now - self._looked_at
        if past >= _LOOKED_EVERY:
            refused = self._links.refused.total()
            rate = (refused - self._refused) / past * (SAMPLE if self.is_on else 1)
            self._looked_at, self._refused = now, refused
            # It takes less to be one still, else it would begin and end all the time.
            self.is_on = rate > (_MANY / 2 if self.is_on else _MANY)
        if self.is_on:
            self._filter()
        elif self._filters:
            for number in self._filters.keys() & self._links.numbers():
                # A socket that was opened anew meanwhile has none.
                with suppress(OSError):
                    self._links.socket_of(number).setsockopt(socket.SOL_SOCKET, _DETACH, 0)
            self._filters.clear()

    def _filter(self) -> None:
        for number in self._links.numbers():
            heard = self._heard(number)
            if self._filters.get(number) != heard:
                self._filters[number] = heard
                _attach(self._links.socket_of(number), program(heard))


def program(heard: Heard) -> bytes:
    """What the kernel does with a datagram: classic BPF, as in bpf(4). Pure."""
    epoch, seq, own, echoed = (struct.unpack("!II", number.to_bytes(8)) for number in heard)
    # Where a comparison fails it goes on with the next way to pass, or with the sample.
    same_life = _above(LIFE_AT, epoch, seq)
    new_life = _above(ECHO_AT, own, echoed)
    steps = [
        (_LOAD_LENGTH, 0, 0, 0),
        (_IF_AT_LEAST, 0, 1 + len(same_life) + len(new_life), _UDP + SIZE),
        (_IF_ABOVE, len(same_life) + len(new_life), 0, _UDP + LONGEST),
        *same_life,
        *new_life,
        (_LOAD, 0, 0, _RANDOM),
        (_AND, 0, 0, SAMPLE - 1),
        (_IF_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, _ACCEPT),
        (_RETURN, 0, 0, _DROP),
    ]
    return b"".join(_STEP.pack(*step) for step in steps)


def _above(
    at: int, life: tuple[int, int], number: tuple[int, int]
) -> list[tuple[int, int, int, int]]:
    """Passed on where this life stands there, and after it a number above this one."""
    return [
        (_LOAD, 0, 0, _UDP + at),
        (_IF_EQUAL, 0, 7, life[0]),
        (_LOAD, 0, 0, _UDP + at + 4),
        (_IF_EQUAL, 0, 5, life[1]),
        (_LOAD, 0, 0, _UDP + at + 8),
        # The upper half of a number stays what it is for years; what differs is left to the sample.
        (_IF_EQUAL, 0, 3, number[0]),
        (_LOAD, 0, 0, _UDP + at + 12),
        (_IF_ABOVE, 0, 1, number[1]),
        (_RETURN, 0, 0, _ACCEPT),
    ]


def _attach(to: socket.socket, steps: bytes) -> None:
    kept = ctypes.create_string_buffer(steps, len(steps))
    head = struct.pack("@HP", len(steps) // _STEP.size, ctypes.addressof(kept))
    to.setsockopt(socket.SOL_SOCKET, _ATTACH, head)
