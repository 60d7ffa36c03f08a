"""Who listens at which TCP ports of this machine, by /proc. Called by `machine_facts`."""

import re
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


def owners() -> tuple[PortOwner, ...]:
    """One for each process that has a listening socket."""
    listening = {inode: at for file in ("tcp", "tcp6") for inode, at in _listening(file)}
    found: list[PortOwner] = []
    seen: set[int] = set()
    for pid, inode in _sockets():
        if inode in listening:
            seen.add(inode)
            found.append(PortOwner(listening[inode], pid, _name(pid)))
    unseen = [PortOwner(at, None, "") for inode, at in listening.items() if inode not in seen]
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
