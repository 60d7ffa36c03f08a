"""Who listens at which TCP ports of this machine, by /proc, and by sock_diag for what that hasn't.
Called by `machine_facts`.
"""

import re
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from mailweir.config.address import Address
from mailweir.doctor.machine_state import PortOwner
from mailweir.foreign import shown

_PROC = Path("/proc")
_LISTENS = "0A"
# Of /proc/net/tcp.
_LOCAL, _STATE, _INODE = 1, 3, 9
_SOCKET = re.compile(r"socket:\[([0-9]+)\]", re.ASCII)
# Linux: netlink.h, sock_diag.h, inet_diag.h, tcp_states.h.
_SOCK_DIAG, _BY_FAMILY, _REQUEST_DUMP, _DONE, _ERROR = 4, 20, 0x301, 3, 2
_STATE_LISTENS, _V6ONLY = 1 << 10, 11
# A header of netlink, and of an attribute; what is told of a socket ends with its inode.
_HEADER, _ATTRIBUTE, _TOLD = struct.Struct("=IHHII"), struct.Struct("=HH"), 72
_ANSWER = 5.0  # seconds


def owners() -> tuple[PortOwner, ...]:
    """One for each process that has a listening socket."""
    listening = {inode: at for file in ("tcp", "tcp6") for inode, at in _listening(file)}
    alone = frozenset(_without_ipv4())
    found: list[PortOwner] = []
    seen: set[int] = set()
    for pid, inode in _sockets():
        if inode in listening:
            seen.add(inode)
            found.append(PortOwner(listening[inode], pid, _name(pid), inode in alone))
    unseen = [
        PortOwner(at, None, "", inode in alone)
        for inode, at in listening.items()
        if inode not in seen
    ]
    return tuple(dict.fromkeys([*found, *unseen]))


def address(text: str) -> Address:
    """As /proc/net/tcp writes it: words of 32 bits as they are in memory, in hexadecimal."""
    ip, _, port = text.partition(":")
    raw = bytes.fromhex(ip)
    words = (raw[n : n + 4][::-1] for n in range(0, len(raw), 4))
    packed: IPv4Address | IPv6Address = ip_address(b"".join(words))
    return Address(packed, int(port, 16))


def _listening(file: str) -> Iterator[tuple[int, Address]]:
    with suppress(OSError, ValueError):
        for line in (_PROC / "net" / file).read_text().splitlines()[1:]:
            parts = line.split()
            if parts[_STATE] == _LISTENS:
                yield int(parts[_INODE]), address(parts[_LOCAL])


def _without_ipv4() -> Iterator[int]:
    """Listening sockets of IPv6 that leave IPv4 to others (IPV6_V6ONLY), by inode. /proc doesn't
    have that (sock_diag(7)); none where the kernel doesn't say.
    """
    asked = struct.pack("=BBxxI48x", socket.AF_INET6, socket.IPPROTO_TCP, _STATE_LISTENS)
    header = _HEADER.pack(_HEADER.size + len(asked), _BY_FAMILY, _REQUEST_DUMP, 1, 0)
    with (
        suppress(OSError),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as asking,
    ):
        asking.settimeout(_ANSWER)
        asking.send(header + asked)
        while True:
            data = asking.recv(1 << 16)
            while data:
                length, kind, *_ = _HEADER.unpack_from(data)
                if kind in (_DONE, _ERROR):
                    return
                yield from _if_alone(data[_HEADER.size : length])
                data = data[length:]


def _if_alone(told: bytes) -> Iterator[int]:
    """The inode of one socket, where that is set."""
    attributes = told[_TOLD:]
    while len(attributes) > _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(attributes)
        if kind == _V6ONLY and attributes[_ATTRIBUTE.size]:
            yield int.from_bytes(told[_TOLD - 4 : _TOLD], sys.byteorder)
        # Each begins at a multiple of 4.
        attributes = attributes[(length + 3) & ~3 :]


def _sockets() -> Iterator[tuple[int, int]]:
    """The sockets of all processes that may be seen, as process and inode."""
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                for descriptor in (folder / "fd").iterdir():
                    with suppress(OSError):
                        if found := _SOCKET.fullmatch(str(descriptor.readlink())):
                            yield int(folder.name), int(found[1])


def _name(pid: int) -> str:
    try:
        return shown((_PROC / str(pid) / "comm").read_text().strip())
    except OSError:
        return ""
