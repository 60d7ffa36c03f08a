"""An IP address and a port, as `10.0.0.1:25` or `[2001:db8::1]:25`.

Read by the model for what a listener binds, what a server is reached at and
where the read-only HTTP address is.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

_EXAMPLE = "for example 10.0.0.1:25 or [2001:db8::1]:25"
_BROADCAST = IPv4Address("255.255.255.255")
# An IPv6 address with an IPv4 one in it, brackets and a port take 53 characters.
_LONGEST = 64
_ADDRESS = re.compile(
    r"(?:\[(?P<six>[^\[\]]*)\]|(?P<four>[^:\[\]]*)):(?P<port>[0-9]{1,5})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where TCP is listened at or connected to."""

    ip: IPv4Address | IPv6Address
    port: int

    def __str__(self) -> str:
        host = f"[{self.ip}]" if self.ip.version == 6 else str(self.ip)
        return f"{host}:{self.port}"

    def overlaps(self, other: "Address") -> bool:
        """Whether who listens at the one is in the way of who listens at the other."""
        if (self.port, self.ip.version) != (other.port, other.ip.version) or not self.port:
            return False
        return self.ip == other.ip or self.ip.is_unspecified or other.ip.is_unspecified


def parse_bind(value: object) -> Address:
    """What a listener can bind; port 0 lets the kernel choose. Raises ValueError."""
    address = _parse(value)
    refuse_unusable(address.ip)
    return address


def refuse_unusable(ip: IPv4Address | IPv6Address) -> None:
    """Raises ValueError for an address that no TCP connection has an end at."""
    if ip.is_multicast:
        raise ValueError(f"{ip} is a multicast address, TCP can't use it")
    if ip == _BROADCAST:
        raise ValueError(f"{ip} is the broadcast address, TCP can't use it")
    if isinstance(ip, IPv6Address) and ip.is_link_local:
        raise ValueError(
            f"{ip} is a link-local address: those need a zone (%), which can't be used; write"
            " another address of that interface"
        )


def parse_server(value: object) -> Address:
    """What a server can be reached at. Raises ValueError."""
    address = parse_bind(value)
    if address.port == 0:
        raise ValueError(f"a server needs a port from 1 to 65535, {_EXAMPLE}")
    if address.ip.is_unspecified:
        raise ValueError(f"{address.ip} stands for every address; name one, {_EXAMPLE}")
    return address


def _parse(value: object) -> Address:
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise ValueError(f"must be an IP address and port, {_EXAMPLE}")
    match = _ADDRESS.fullmatch(value)
    ip = _ip(value if match is None else match["six"] or match["four"])
    if match is None and ip is not None:
        raise ValueError(f"{value} needs a port, {_EXAMPLE}")
    if match is None or ip is None:
        raise ValueError(f"must be an IP address and port, {_EXAMPLE}; not {value!r}")
    if (ip.version == 6) != (match["six"] is not None):
        raise ValueError(f"IPv6 addresses, and only they, are written in brackets, {_EXAMPLE}")
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        raise ValueError(f"write the IPv4 address itself: {ip.ipv4_mapped}:{match['port']}")
    if isinstance(ip, IPv6Address) and ip.scope_id is not None:
        raise ValueError("link-local addresses with a zone (%) can't be used")
    port = int(match["port"])
    if str(port) != match["port"]:
        raise ValueError(f"a port has no leading zero: write {port}")
    if port > 65535:
        raise ValueError(f"port {port} is above 65535")
    return Address(ip, port)


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
