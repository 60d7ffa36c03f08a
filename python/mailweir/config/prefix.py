"""A prefix of IP addresses, as `10.0.0.0/8` or `2001:db8::/32`; one address is a prefix as well.

Read by `prefixes`, a million of them in one load: so this takes a few microseconds each and makes
text of text, without an object in between.
"""

import re
from ipaddress import IPv4Address, IPv6Address

EXAMPLE = "such as 10.0.0.0/8 or 2001:db8::/32"
# An IPv6 address with an IPv4 one in it and a length take 49 characters.
_LONGEST = 64
# Most of them: as ipaddress would write it, which takes longer than all the rest.
_USUAL_6 = re.compile(r"(?:[1-9a-f][0-9a-f]{0,3}:){1,6}:", re.ASCII)


class NoPrefixError(ValueError):
    """Something is no prefix at all; the message repeats it."""


def parse_prefix(text: str) -> str:
    """`text` in the only writing that there is of its prefix, `10.0.0.1` as `10.0.0.1/32`.

    Raises ValueError with a message for the operator, which has nothing of `text` but an address;
    NoPrefixError where it begins with none.
    """
    host, slash, length = text.partition("/")
    kind: type[IPv4Address | IPv6Address] = IPv6Address if ":" in host else IPv4Address
    try:
        ip = kind(host[:_LONGEST])
    except ValueError:
        raise _no_prefix(text) from None
    size = ip.max_prefixlen
    if not slash:
        length = str(size)
    if not (length.isascii() and length.isdigit() and len(length) <= 3):
        raise _no_prefix(text)
    bits = int(length)
    if bits > size:
        raise ValueError(f"{ip} has {size} bits, so no prefix of {bits} bits")
    if isinstance(ip, IPv6Address):
        _refuse_special(ip, bits)
        host = host if _USUAL_6.fullmatch(host) else str(ip)
    number = int(ip)
    rest = number & ((1 << (size - bits)) - 1)
    if rest:
        raise ValueError(
            f"{host}/{bits} has bits behind its length; did you mean"
            f" {kind(number - rest)}/{bits}, or {host} alone?"
        )
    return f"{host}/{bits}"


def _refuse_special(ip: IPv6Address, bits: int) -> None:
    if ip.ipv4_mapped is not None and bits >= 96:
        raise ValueError(f"write the IPv4 prefix itself: {ip.ipv4_mapped}/{bits - 96}")
    if ip.scope_id is not None:
        raise ValueError("addresses with a zone (%) can't be used")


def _no_prefix(text: str) -> NoPrefixError:
    shown = repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")
    return NoPrefixError(f"must be a prefix {EXAMPLE}, not {shown}")
