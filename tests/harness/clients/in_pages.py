"""Frames of which the kernel has no more than the Ethernet header in memory at once: the rest is in
pages, as some drivers leave it. Needs root.
"""

import mmap
import socket
import struct

# linux/if_packet.h
_SOL_PACKET, _PACKET_TX_RING = 263, 13
_SEND_REQUEST = 1
_FRAME = 4096
# Of `tpacket_hdr`, which is aligned; what is to be sent comes behind it.
_HEADER = 32


def send_in_pages(device: str, frame: bytes) -> None:
    """Send a frame from the network that this runs in, by a ring (packet_mmap in the kernel's
    documentation): of that only the Ethernet header is copied.
    """
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        ring = struct.pack("IIII", _FRAME, 1, _FRAME, 1)
        sock.setsockopt(_SOL_PACKET, _PACKET_TX_RING, ring)
        sock.bind((device, 0))
        with mmap.mmap(sock.fileno(), _FRAME) as frames:
            frames[_HEADER : _HEADER + len(frame)] = frame
            # Its length; then that it is to be sent.
            frames[8:12] = struct.pack("I", len(frame))
            frames[0:8] = struct.pack("L", _SEND_REQUEST)
            sock.send(b"")
