"""Frames as drivers give them: what they hold of a segment is seen wherever it lies."""

import json
import struct
from pathlib import Path

import pytest

from harness.clients.forged import ACK, PSH, numbers, segment
from harness.clients.in_pages import send_in_pages
from harness.mailweir.kernel_rig import PORT, kernel_rig, rig_configuration, serving_there
from harness.networks.row import LISTENER, Row, row
from harness.servers.scripted import Stream
from harness.waiting import LIMIT, until

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


def _mac(networks: Row, network: str, device: str) -> bytes:
    (link,) = json.loads(networks.run(network, "ip", "-json", "link", "show", "dev", device))
    return bytes.fromhex(link["address"].replace(":", ""))


@pytest.mark.parametrize("size", [6, 1400])
def test_headers_that_lie_in_pages(tmp_path: Path, size: int) -> None:
    """Else a large segment would be nobody's, in a session whose small ones are rewritten."""
    said = list[bytes]()

    def handle(stream: Stream) -> None:
        stream.send(b"220 mx.server.test ESMTP\r\n")
        while line := stream.line():
            said.append(line)
            stream.send(b"250 fine\r\n")

    with (
        row() as networks,
        networks.kernel_setting("c", "net.ipv4.tcp_timestamps", "0"),
        serving_there(networks, handle),
        kernel_rig(networks, tmp_path, rig_configuration(tmp_path)) as rig,
    ):
        with rig.client() as first:  # by which it is known what the server takes
            first.expect("220")
            client = rig.client()
            client.expect("220")
        until(lambda: rig.flows() == 1, "the session to be a flow")
        with client:
            client.expect("250", "EHLO client.test")
            sent, heard = numbers(client.socket)
            line = b"x" * (size - 2) + b"\r\n"
            own = client.socket.getsockname()
            packet = segment(own, (LISTENER, PORT), ACK | PSH, sent, line, ack=heard)
            head = _mac(networks, "l", "clients") + _mac(networks, "c", "balancer")
            frame = head + struct.pack("!H", 0x0800) + packet
            networks.inside("c", lambda: send_in_pages("balancer", frame)).result(LIMIT)
            until(lambda: said[-1:] == [line], "the server to hear it")
            # The client knows nothing of it: they don't understand each other any more.
            for session in rig.sessions():
                assert rig.balancer.command("kill", session["id"]).returncode == 0
