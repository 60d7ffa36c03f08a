"""TCP segments, and what routers say of them, that come from somebody else. Needs root."""

import socket
import struct

from harness.dialogue import Address

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


# Of an IPv4 header: more fragments of the packet come behind this one.
MORE = 0x2000


def forge(
    sender: Address,
    receiver: Address,
    flags: int,
    seq: int,
    payload: bytes = b"",
    fragment: int = 0,
) -> None:
    """Send one from the network that this runs in."""
    header = struct.pack(
        "!HHIIBBHHH", sender[1], receiver[1], seq % 2**32, 1, 5 << 4, flags, 65535, 0, 0
    )
    addresses = socket.inet_aton(sender[0]) + socket.inet_aton(receiver[0])
    pseudo = addresses + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(header) + len(payload))
    whole = header[:16] + struct.pack("!H", _sum(pseudo + header + payload)) + header[18:] + payload
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(whole), 0, fragment, 64, socket.IPPROTO_TCP, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(ip + addresses + whole, (receiver[0], 0))


def too_big(packet: bytes, mtu: int) -> None:
    """Say to the sender of an IPv4 packet what a router says that can't pass it on (RFC 1191)."""
    # The header, and eight bytes of what it carries.
    said = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + packet[:28]
    said = said[:2] + struct.pack("!H", _sum(said)) + said[4:]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.sendto(said, (socket.inet_ntoa(packet[12:16]), 0))


def _sum(data: bytes) -> int:
    """The checksum of RFC 1071."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
