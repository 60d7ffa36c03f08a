"""What went over loopback, segment by segment, as tcpdump saw it.

Needs the package tcpdump, and root.
"""

import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from harness.needs import program
from harness.process import Running, running
from harness.waiting import until

_FILE_HEADER = 24
_RECORD = struct.Struct("<IIII")  # seconds, microseconds, bytes kept, bytes there were
_ETHERNET = 14
_IPV4, _IPV6 = 0x0800, 0x86DD


@dataclass(frozen=True)
class Segment:
    """A TCP segment with payload."""

    source: tuple[str, int]
    destination: tuple[str, int]
    payload: bytes


class Capture:
    """What is captured so far."""

    def __init__(self, process: Running, file: Path) -> None:
        self._process = process
        self._file = file

    def first_segments(self, number: int) -> list[Segment]:
        """The first one with payload of each connection, once there are so many connections."""

        def arrived() -> list[Segment]:
            first: dict[tuple[str, int, str, int], Segment] = {}
            for segment in _segments(self._file.read_bytes()):
                first.setdefault((*segment.source, *segment.destination), segment)
            return list(first.values()) if len(first) >= number else []

        return until(arrived, f"{number} connections with payload in the capture")

    def end(self) -> None:
        """Stop, and fail if something was missed."""
        self._process.send(signal.SIGINT)
        assert self._process.wait() == 0, self._process.err
        assert "\n0 packets dropped by kernel" in self._process.err, self._process.err


@contextmanager
def capturing(directory: Path, what: str) -> Iterator[Capture]:
    """Captures what this filter expression takes."""
    file = directory / "capture.pcap"
    # Each packet is taken and written at once, none is cut short.
    how = ["-i", "lo", "-n", "-U", "--immediate-mode", "-s", "0", "-B", "16384", "-Z", "root"]
    command: list[str | Path] = [program("tcpdump"), *how, "-w", file, what]
    with running(command, directory, "tcpdump") as process:
        process.until(lambda: "listening on lo" in process.err, "tcpdump to listen")
        yield Capture(process, file)


def _segments(capture: bytes) -> Iterator[Segment]:
    """Those with payload, in their order; a record that isn't whole yet is left out."""
    at = _FILE_HEADER
    while at + _RECORD.size <= len(capture):
        kept = _RECORD.unpack_from(capture, at)[2]
        at += _RECORD.size
        frame = capture[at : at + kept]
        at += kept
        if at <= len(capture):
            segment = _segment(frame)
            if segment.payload:
                yield segment


def _segment(frame: bytes) -> Segment:
    [kind] = struct.unpack_from("!H", frame, _ETHERNET - 2)
    packet = frame[_ETHERNET:]
    if kind == _IPV4:
        [length] = struct.unpack_from("!H", packet, 2)
        tcp, addresses = packet[(packet[0] & 0xF) * 4 : length], packet[12:20]
    else:
        assert kind == _IPV6, frame
        [length] = struct.unpack_from("!H", packet, 4)
        # No extension headers come over loopback.
        tcp, addresses = packet[40 : 40 + length], packet[8:40]
    source, destination = struct.unpack_from("!HH", tcp)
    half = len(addresses) // 2
    return Segment(
        (str(ip_address(addresses[:half])), source),
        (str(ip_address(addresses[half:])), destination),
        tcp[(tcp[12] >> 4) * 4 :],
    )
