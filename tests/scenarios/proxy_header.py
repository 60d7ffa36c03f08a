"""Reads PROXY headers, by HAProxy's proxy-protocol.txt and not by what mailweir writes."""

import re
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address

from harness.clients.dialogue import Address

_V1 = re.compile(rb"PROXY TCP([46]) (\S+) (\S+) (\d{1,5}) (\d{1,5})\r\n")
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_V2_PROXY = 0x21  # version 2, not LOCAL
_FAMILIES = {0x11: (socket.AF_INET, 4), 0x21: (socket.AF_INET6, 16)}  # over TCP; address width
_UNIQUE_ID = 0x05


@dataclass(frozen=True)
class Header:
    """What one says."""

    version: str
    client: Address
    listener: Address
    unique_id: str = ""


def header(payload: bytes) -> Header:
    """Of a payload that is a header and nothing else; fails otherwise."""
    if payload.startswith(_V2):
        return _v2(payload)
    found = _V1.fullmatch(payload)
    assert found is not None, payload
    family, client, listener, *ports = [field.decode() for field in found.groups()]
    assert {ip_address(client).version, ip_address(listener).version} == {int(family)}, payload
    return Header("v1", (client, int(ports[0])), (listener, int(ports[1])))


def _v2(payload: bytes) -> Header:
    kind, family, length = struct.unpack_from("!BBH", payload, len(_V2))
    block = payload[len(_V2) + 4 :]
    assert (kind, len(block)) == (_V2_PROXY, length), payload
    version, width = _FAMILIES[family]
    client, listener = (socket.inet_ntop(version, block[at : at + width]) for at in (0, width))
    ports = struct.unpack_from("!HH", block, 2 * width)
    extras = _extras(block[2 * width + 4 :])
    unique_id = extras.get(_UNIQUE_ID, b"").decode()
    return Header("v2", (client, ports[0]), (listener, ports[1]), unique_id)


def _extras(block: bytes) -> dict[int, bytes]:
    """The TLVs, by type."""
    found = {}
    while block:
        kind, length = struct.unpack_from("!BH", block)
        found[kind] = block[3 : 3 + length]
        assert len(found[kind]) == length, block
        block = block[3 + length :]
    return found
