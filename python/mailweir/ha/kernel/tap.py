"""Sends and hears Ethernet frames on one device. For `announce` and `neighbours`.

A packet socket, which needs CAP_NET_RAW. Nothing here waits: closing one takes the kernel some
16 ms, so a thread does that.
"""

import ctypes
import errno
import socket
import struct
from collections.abc import Iterator
from threading import Thread

from mailweir.errors import StartError

# Linux, not in the socket module.
_SO_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_ARPHRD_ETHER = 1
_STEP = 8  # bytes of one of a filter
_LONGEST = 2048
# Frames that are read at a time; the event loop comes again for the rest.
_AT_ONCE = 64


class Tap:
    """`protocol`: what it hears of, by an Ethernet type and a filter; 0 is nothing at all."""

    def __init__(self, dev: str, protocol: int = 0, taken: bytes = b"") -> None:
        self.dev = dev
        try:
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0
            )
        except PermissionError:
            raise StartError(
                "may not speak to neighbours (ARP, NDP): "
                "mailweir ha needs the capability CAP_NET_RAW"
            ) from None
        try:
            if taken:
                _attach(self._socket, taken)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            self._socket.bind((dev, protocol))
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def mac(self) -> bytes | None:
        """What the device has now as hardware address; None where it isn't Ethernet, or gone."""
        _, _, _, kind, mac = self._socket.getsockname()
        return bytes(mac) if kind == _ARPHRD_ETHER and len(mac) == 6 else None

    def send(self, frame: bytes) -> None:
        """OSError where the device is down or its queue is full."""
        self._socket.send(frame)

    def heard(self) -> Iterator[bytes]:
        """Frames that have come in by this device. OSError once where it went down."""
        for _ in range(_AT_ONCE):
            try:
                frame, (dev, *_) = self._socket.recvfrom(_LONGEST)
            except BlockingIOError:
                return
            # A VLAN's frames are seen at the device below it, too.
            if dev == self.dev:
                yield frame

    def close(self) -> None:
        """Hear nothing more."""
        Thread(target=self._socket.close, name="ha-tap-close").start()


def is_absent(error: OSError) -> bool:
    """There is no such device."""
    return error.errno in (errno.ENODEV, errno.ENXIO)


def _attach(to: socket.socket, taken: bytes) -> None:
    program = ctypes.create_string_buffer(taken, len(taken))
    head = struct.pack("@HP", len(taken) // _STEP, ctypes.addressof(program))
    to.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)
