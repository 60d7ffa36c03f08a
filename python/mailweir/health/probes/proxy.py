"""The PROXY header that a check begins with, where the server wants one; and what to ask of a
server whose words may mean that it wants another one. Pure.

As HAProxy's proxy-protocol.txt has it for checks: version 2 says LOCAL, version 1 has no
word for that (Postfix refuses its UNKNOWN) and names the check's own connection.
"""

import re
from ipaddress import ip_address

from mailweir.config.words import Proxy

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
# Version 2, command LOCAL; no family, no addresses.
_LOCAL = b"\x20\x00\x00\x00"
# What servers say that got no header, or none that they understand: Postfix's smtpd, its
# postscreen, and by name Exim ("required Proxy negotiation failed") and Haraka ("PROXY timed out").
_MAY_WANT_ONE = re.compile(
    r"server local error|no system resources|proxy (protocol|negotiation|timed out)", re.IGNORECASE
)

Endpoint = tuple[str, int]


def header(kind: Proxy, own: Endpoint, server: Endpoint) -> bytes:
    """The bytes to be sent first, for a connection from `own` to `server`; perhaps none."""
    match kind:
        case Proxy.OFF:
            return b""
        case Proxy.V1:
            family = f"TCP{ip_address(own[0]).version}"
            return f"PROXY {family} {own[0]} {server[0]} {own[1]} {server[1]}\r\n".encode()
        case Proxy.V2:
            return _SIGNATURE + _LOCAL


def question(said: str, sent: Proxy) -> str:
    """What to ask of a server that refused a check by these words, to stand behind them; empty
    where they aren't about a header.
    """
    if _MAY_WANT_ONE.search(said) is None:
        return ""
    if sent is Proxy.OFF:
        return " (does it expect a PROXY header? then write `proxy: v2`)"
    return f" (does it take the PROXY {sent} header? `mailweir doctor` finds out)"
