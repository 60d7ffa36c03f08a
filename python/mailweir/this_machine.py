"""What this machine has that a configuration has to fit to. Asked before one is taken."""

import socket
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from mailweir import plane
from mailweir.config.machine import ThisMachine

_DISCARD = 9  # any port: nothing is sent
_PORTS = Path("/proc/sys/net/ipv4")


def this_machine() -> ThisMachine:
    """As it is now."""
    built = plane.kernel_path_is_built()
    return ThisMachine(has=is_own, given_ports=given_ports(), kernel_path=built)


def given_ports(folder: Path = _PORTS) -> frozenset[int]:
    """Those that the system gives to connections by itself; none where that can't be known."""
    try:
        first, last = map(int, (folder / "ip_local_port_range").read_text().split())
        reserved = (folder / "ip_local_reserved_ports").read_text().strip()
        kept = [part.partition("-") for part in reserved.split(",") if part]
        own = {n for one, _, end in kept for n in range(int(one), int(end or one) + 1)}
    except (OSError, ValueError):
        return frozenset()
    return frozenset(range(first, last + 1)) - own


def is_own(address: IPv4Address | IPv6Address) -> bool:
    """Whether the system would connect to itself there: from that very address, then.

    That one can be bound says nothing (ip_nonlocal_bind). Where it can't be known, it isn't.
    """
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            if address.version == 4:
                # Of several addresses in a network the first is taken, unless another one is asked
                # for; connecting from one that isn't here fails.
                asking.bind((str(address), 0))
            asking.connect((str(address), _DISCARD))
            return bool(asking.getsockname()[0] == str(address))
    except OSError:
        return False
