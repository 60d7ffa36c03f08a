"""Ethernet frames that ask who has an address, and that say so. Pure. For `tap`'s users.

ARP (RFC 826, probes and announcements RFC 5227) for IPv4, neighbour discovery (RFC 4861) for IPv6.
What is read here comes from anybody on the network.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NewType

IP = IPv4Address | IPv6Address
MAC = NewType("MAC", str)  # as 02:00:5e:10:00:00

ARP, IPV6 = 0x0806, 0x86DD
_BROADCAST, _NOBODY = b"\xff" * 6, bytes(6)
_ALL_NODES = IPv6Address("ff02::1")
_SOLICITED_NODES = int(IPv6Address("ff02::1:ff00:0"))
_ETHERNET = struct.Struct("!6s6sH")
# Hardware, protocol, their lengths, operation; sender's MAC and IP, target's MAC and IP.
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_BEGIN = (1, 0x0800, 6, 4)
_REQUEST, _REPLY = 1, 2
# Version to flow label, payload length, next header, hop limit, source, destination.
_IPV6 = struct.Struct("!IHBB16s16s")
_ICMPV6 = 58
_HOPS = 255  # nobody beyond a router can say so
_SOLICITATION, _ADVERTISEMENT = 135, 136
_OVERRIDE = 0x20000000
# Type, code, checksum, flags, target.
_NEIGHBOUR = struct.Struct("!BBHI16s")
_SOURCE_MAC, _TARGET_MAC = 1, 2
_OPTION_UNIT = 8


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody says that an address is theirs."""

    ip: IP
    mac: MAC


def spelled(mac: bytes) -> MAC:
    """A hardware address as people write it."""
    return MAC(mac.hex(":"))


def question(ip: IP, mac: bytes, source: IP | None) -> bytes:
    """Who has `ip`; as a probe that nobody learns an address from where there is no source."""
    if isinstance(ip, IPv4Address):
        sender = source.packed if source else bytes(4)
        arp = _ARP.pack(*_ARP_BEGIN, _REQUEST, mac, sender, _NOBODY, ip.packed)
        return _ETHERNET.pack(_BROADCAST, mac, ARP) + arp
    group = IPv6Address(_SOLICITED_NODES | int(ip) & 0xFFFFFF)
    sender6 = source if isinstance(source, IPv6Address) else IPv6Address(0)
    message = _NEIGHBOUR.pack(_SOLICITATION, 0, 0, 0, ip.packed)
    if source:
        message += _mac_option(_SOURCE_MAC, mac)
    return _multicast(mac, sender6, group, message)


def announcements(ip: IP, mac: bytes) -> list[bytes]:
    """`ip` is at `mac`: for everybody to correct what they know.

    ARP in both forms, since there are systems that heed one of them alone.
    """
    if isinstance(ip, IPv4Address):
        forms = ((_REQUEST, _NOBODY), (_REPLY, mac))
        return [
            _ETHERNET.pack(_BROADCAST, mac, ARP)
            + _ARP.pack(*_ARP_BEGIN, operation, mac, ip.packed, target, ip.packed)
            for operation, target in forms
        ]
    message = _NEIGHBOUR.pack(_ADVERTISEMENT, 0, 0, _OVERRIDE, ip.packed)
    return [_multicast(mac, ip, _ALL_NODES, message + _mac_option(_TARGET_MAC, mac))]


def claim(frame: bytes) -> Claim | None:
    """What a frame claims; None where it claims nothing or isn't well-formed."""
    if len(frame) < _ETHERNET.size:
        return None
    _, sender, protocol = _ETHERNET.unpack_from(frame)
    packet = frame[_ETHERNET.size :]
    if protocol == ARP:
        return _arp_claim(packet)
    if protocol == IPV6:
        return _advertised(packet, sender)
    return None


def _arp_claim(packet: bytes) -> Claim | None:
    if len(packet) < _ARP.size:
        return None
    *begin, operation, mac, sender, _, _ = _ARP.unpack_from(packet)
    if tuple(begin) != _ARP_BEGIN or operation not in (_REQUEST, _REPLY):
        return None
    ip = IPv4Address(sender)
    return Claim(ip, spelled(mac)) if int(ip) and _is_somebody(mac) else None


def _advertised(packet: bytes, sender: bytes) -> Claim | None:
    if len(packet) < _IPV6.size:
        return None
    first, length, kind, hops, source, destination = _IPV6.unpack_from(packet)
    message = packet[_IPV6.size : _IPV6.size + length]
    if first >> 28 != 6 or kind != _ICMPV6 or hops != _HOPS or len(message) != length:
        return None
    if length < _NEIGHBOUR.size or _checksum(source, destination, message) != 0:
        return None
    what, code, _, _, target = _NEIGHBOUR.unpack_from(message)
    if what != _ADVERTISEMENT or code != 0:
        return None
    mac = sender
    options = message[_NEIGHBOUR.size :]
    while options:
        size = options[1] * _OPTION_UNIT if len(options) > 1 else 0
        if not 0 < size <= len(options):
            return None
        if options[0] == _TARGET_MAC and size == _OPTION_UNIT:
            mac = options[2:8]
        options = options[size:]
    ip = IPv6Address(target)
    return Claim(ip, spelled(mac)) if not ip.is_multicast and _is_somebody(mac) else None


def _is_somebody(mac: bytes) -> bool:
    return mac != _NOBODY and not mac[0] & 1


def _mac_option(kind: int, mac: bytes) -> bytes:
    return bytes((kind, 1)) + mac


def _multicast(mac: bytes, source: IPv6Address, group: IPv6Address, message: bytes) -> bytes:
    total = _checksum(source.packed, group.packed, message)
    message = message[:2] + struct.pack("!H", total) + message[4:]
    to = b"\x33\x33" + group.packed[12:]
    header = _IPV6.pack(6 << 28, len(message), _ICMPV6, _HOPS, source.packed, group.packed)
    return _ETHERNET.pack(to, mac, IPV6) + header + message


def _checksum(source: bytes, destination: bytes, message: bytes) -> int:
    """RFC 1071 with IPv6's pseudo header; 0 where a message carries the right one."""
    data = source + destination + struct.pack("!II", len(message), _ICMPV6) + message
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


# Filters for the kernel, so that it wakes us for nothing else: classic BPF, as in bpf(4).
_LOAD_WORD, _LOAD_BYTE, _IF_EQUAL, _RETURN = 0x20, 0x30, 0x15, 0x06
_WHOLE = 0xFFFF
_SENDER_AT = _ETHERNET.size + 14
_NEXT_HEADER_AT = _ETHERNET.size + 6
_TYPE_AT = _ETHERNET.size + _IPV6.size
_TARGET_AT = _TYPE_AT + 8


def claims_filter(ips: Sequence[IP]) -> bytes:
    """Takes claims to these, all of one family, out of what a socket for ARP or IPv6 hears."""
    steps: list[tuple[int, int, int, int]] = []
    for at, value in ((_NEXT_HEADER_AT, _ICMPV6), (_TYPE_AT, _ADVERTISEMENT)):
        if any(ip.version == 6 for ip in ips):
            steps += [(_LOAD_BYTE, 0, 0, at), (_IF_EQUAL, 1, 0, value), (_RETURN, 0, 0, 0)]
    for ip in ips:
        at = _SENDER_AT if ip.version == 4 else _TARGET_AT
        words = struct.unpack(f"!{len(ip.packed) // 4}I", ip.packed)
        for number, word in enumerate(words):
            # Where one differs: past the rest of them, and the return.
            past = 2 * (len(words) - number) - 1
            steps += [(_LOAD_WORD, 0, 0, at + 4 * number), (_IF_EQUAL, 0, past, word)]
        steps.append((_RETURN, 0, 0, _WHOLE))
    steps.append((_RETURN, 0, 0, 0))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
