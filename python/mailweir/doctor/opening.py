"""What a session begins with: no header, the PROXY header of a check, or that of a client. Pure."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from mailweir.config.words import Proxy
from mailweir.health.probes import proxy

IP = IPv4Address | IPv6Address

# Clients from outside, as far as servers know: no network has these (RFC 5737, RFC 3849).
CLIENT4: IP = IPv4Address("192.0.2.1")
CLIENT6: IP = IPv6Address("2001:db8::1")
# Where such a client has connected to.
_SERVER4: IP = IPv4Address("192.0.2.25")
_SERVER6: IP = IPv6Address("2001:db8::25")
_CLIENT_PORT, _SMTP = 40025, 25
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
# proxy-protocol.txt, 2.2: version 2, PROXY; TCP over IPv4, over IPv6.
_PROXY = 0x21
_FAMILIES = {4: 0x11, 6: 0x21}


@dataclass(frozen=True, slots=True)
class Opening:
    """`client` is who the header names; None is what checks say (LOCAL, in version 1 their own
    connection).
    """

    kind: Proxy
    client: IP | None = None

    def header(self, own: tuple[str, int], server: tuple[str, int]) -> bytes:
        """The bytes to be sent first, for a connection from `own` to `server`; perhaps none."""
        if self.client is None or self.kind is Proxy.OFF:
            return proxy.header(self.kind, own, server)
        there = _SERVER4 if self.client.version == 4 else _SERVER6
        if self.kind is Proxy.V1:
            ends = f"{self.client} {there} {_CLIENT_PORT} {_SMTP}"
            return f"PROXY TCP{self.client.version} {ends}\r\n".encode("ascii")
        body = self.client.packed + there.packed + struct.pack("!HH", _CLIENT_PORT, _SMTP)
        head = struct.pack("!BBH", _PROXY, _FAMILIES[self.client.version], len(body))
        return _SIGNATURE + head + body

    def __str__(self) -> str:
        if self.kind is Proxy.OFF:
            return "without a PROXY header"
        named = f" that names the client {self.client}" if self.client else ""
        return f"with a PROXY {self.kind} header{named}"
