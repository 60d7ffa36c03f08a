"""What rules may know of the machine that a configuration is for. Its loader finds that out."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address


@dataclass(frozen=True, slots=True)
class ThisMachine:
    """One that could run it now."""

    # Whether an address is one of its own.
    has: Callable[[IPv4Address | IPv6Address], bool]
    # Ports that it gives to connections by itself.
    given_ports: frozenset[int] = frozenset()
    # Whether the mailweir that is there was built with it.
    kernel_path: bool = True
