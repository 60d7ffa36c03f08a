"""TCP segments, and what routers say of them, that come from somebody else. Needs root."""

import socket
import struct

from harness.clients.dialogue import Address

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

# linux/tcp.h
_TCP_REPAIR, _TCP_REPAIR_QUEUE, _TCP_QUEUE_SEQ = 19, 20, 21
_RECEIVE_QUEUE, _SEND_QUEUE = 1, 2

# Of an IPv4 header: more fragments of the packet come behind this one.
MORE = 0x2000


def forge(
    sender: Address, receiver: Address, flags: int, seq: int, payload: bytes = b"", **more: int
) -> None:
    """Send a `segment` from the network that this runs in."""
    packet = segment(sender, receiver, flags, seq, payload, **more)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(packet, (receiver[0], 0))


def segment(
    sender: Address,
    receiver: Address,
    flags: int,
    seq: int,
    payload: bytes = b"",
    fragment: int = 0,
    ack: int = 1,
    damage: int = 0,
) -> bytes:
    """As an IPv4 packet; `damage` is what its checksum is wrong by."""
    header = struct.pack(
        "!HHIIBBHHH", sender[1], receiver[1], seq % 2**32, ack, 5 << 4, flags, 65535, 0, 0
    )
    addresses = socket.inet_aton(sender[0]) + socket.inet_aton(receiver[0])
    pseudo = addresses + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(header) + len(payload))
    checksum = _sum(pseudo + header + payload) ^ damage
    whole = header[:16] + struct.pack("!H", checksum) + header[18:] + payload
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(whole), 0, fragment, 64, socket.IPPROTO_TCP, 0)
    ip = ip[:10] + struct.pack("!H", _sum(ip + addresses)) + addresses
    return ip + whole


def numbers(connection: socket.socket) -> tuple[int, int]:
    """Where both directions of a connection are that rests: behind what was said, and heard."""
    found = []
    connection.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
    for queue in (_SEND_QUEUE, _RECEIVE_QUEUE):
        connection.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_QUEUE, queue)
        found.append(connection.getsockopt(socket.IPPROTO_TCP, _TCP_QUEUE_SEQ) % 2**32)
    connection.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, -1)
    return found[0], found[1]


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
