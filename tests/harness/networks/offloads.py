"""What cards do for the kernel, and a peer that reads frames by itself has to be without: segments
come to it as they would on a wire, each by itself and with its checksum.
"""

import array
import fcntl
import socket
import struct

# linux/sockios.h, linux/ethtool.h: sums and the cutting of what is larger than a segment.
_SIOCETHTOOL = 0x8946
_SET_SUMS, _SET_SEGMENTS, _SET_ANY_SEGMENTS = 0x17, 0x1F, 0x24


def turn_off(device: str) -> None:
    """Of an interface in the network that this runs in, on its way out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for what in (_SET_SEGMENTS, _SET_ANY_SEGMENTS, _SET_SUMS):
            value = array.array("I", [what, 0])
            address, _ = value.buffer_info()
            request = struct.pack("16sP16x", device.encode(), address)
            fcntl.ioctl(control, _SIOCETHTOOL, request)
