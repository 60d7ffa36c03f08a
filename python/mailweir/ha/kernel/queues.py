"""Whether anybody listens where clients come: who connects then waits, and isn't refused. Called by
`ha.agent`.

The sockets may be those of a process that is gone, kept by its service manager for the next one.
"""

import sys
from collections.abc import Collection, Iterator
from ipaddress import ip_address
from pathlib import Path

from mailweir.ha.kernel.frames import IP

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN = "0A"


def anybody_listens(virtual: Collection[IP], ports: Collection[int]) -> bool:
    """At one of the addresses, or at all of this machine's. True where it can't be known. A kernel
    without IPv6 has no table of that.
    """
    try:
        return any(
            port in ports and (ip in virtual or ip.is_unspecified) for ip, port in _listening()
        )
    except (OSError, ValueError):
        return True


def _listening() -> Iterator[tuple[IP, int]]:
    """proc(5): those that listen stand first, so that thousands of sessions needn't be read."""
    for table in [one for one in _TABLES if one.exists()] or _TABLES:
        with open(table, encoding="ascii") as lines:
            next(lines, "")
            for line in lines:
                _, local, _, state, *_ = line.split()
                if state != _LISTEN:
                    break
                digits, _, port = local.partition(":")
                yield _address(bytes.fromhex(digits)), int(port, 16)


def _address(words: bytes) -> IP:
    """Of words of four bytes in this machine's order."""
    numbers = (int.from_bytes(words[at : at + 4]) for at in range(0, len(words), 4))
    return ip_address(b"".join(number.to_bytes(4, sys.byteorder) for number in numbers))
