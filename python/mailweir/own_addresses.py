"""Whether an address is one of this machine's. Asked before a configuration is taken."""

import socket
from ipaddress import IPv4Address, IPv6Address

_DISCARD = 9  # any port: nothing is sent


def is_own(address: IPv4Address | IPv6Address) -> bool:
    """Whether the system would connect to itself there: from that very address, then.

    That one can be bound says nothing (ip_nonlocal_bind). Where it can't be known, it isn't.
    """
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((str(address), _DISCARD))
            return bool(asking.getsockname()[0] == str(address))
    except OSError:
        return False
