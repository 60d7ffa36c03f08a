"""What peers negotiate: which sessions take the kernel path, and that all arrive as they were sent.

Settings of TCP are each network's own. mailweir's ends of a session take those of its network.
"""

import os
import socket
import threading
from functools import partial
from pathlib import Path

import pytest

from harness.mailweir.kernel_rig import (
    GREETING,
    PORT,
    Rig,
    kernel_rig,
    polite,
    rig_before,
    rig_configuration,
    serving_there,
)
from harness.networks.row import CLIENT, SERVER, Row, row
from harness.servers.exact import echo, exchange
from harness.servers.scripted import Stream
from harness.waiting import LIMIT, until

_SIZE = 300_000
_RECEIVE_BUFFERS = "net.ipv4.tcp_rmem"
# Beside the system's largest, which a scale is for as well.
_TINY = "4096 8192 33554432"

pytestmark = pytest.mark.needs("iproute2", "nftables", "procps", "clang")


def _mail(rig: Rig) -> None:
    with rig.client() as client:
        client.expect("220")
        client.expect("250", "EHLO client.test")
        client.mail()


def test_a_client_whose_segments_may_be_cut(tmp_path: Path) -> None:
    """Its SYN has no DF: where the way gets narrow, fragments come. The relay serves it alone."""
    with rig_before(tmp_path, polite) as rig:
        with rig.networks.kernel_setting("c", "net.ipv4.ip_no_pmtu_disc", "1"):
            _mail(rig)
        relayed = rig.record()
        assert relayed["path"] in ("copy", "splice")
        assert relayed["end_reason"] == "client_quit"
        assert rig.relayed("fragments") == 1
        _mail(rig)
        assert rig.record(2)["path"] == "kernel"
        assert rig.relayed("fragments") == 1


def test_a_server_whose_segments_may_be_cut(tmp_path: Path) -> None:
    """As with clients; what its SYN says is that of the socket that it listens with."""
    with row() as networks:
        networks.run("s", "sysctl", "net.ipv4.ip_no_pmtu_disc=1")
        config = rig_configuration(tmp_path)
        with serving_there(networks, polite), kernel_rig(networks, tmp_path, config) as rig:
            _mail(rig)
            assert rig.record()["path"] in ("copy", "splice")
            assert rig.relayed("fragments") == 1


@pytest.mark.parametrize("size", [536, 1200, 1450])
@pytest.mark.parametrize("how", ["advmss", "mtu"])
@pytest.mark.parametrize("network", ["c", "s"])
def test_a_peer_that_takes_small_segments(
    tmp_path: Path, network: str, how: str, size: int
) -> None:
    """The server is told what the client takes. It can't be the other way round: the client was
    answered before there was a server.
    """
    with rig_before(tmp_path, echo) as rig:
        _take(rig.networks, network, how, size)
        for one in "cs":
            # Several segments in one would get past what is too small for each.
            rig.networks.run(one, "ip", "link", "set", "balancer", "gso_max_segs", "1")
        assert rig.networks.inside("c", partial(exchange, _SIZE)).result(LIMIT)
        record = rig.record()
        if network == "s":
            assert record["path"] in ("copy", "splice")
            assert rig.relayed("segment_size") == 1
            return
        assert record["path"] == "kernel"
        with rig.client() as client:
            client.expect("220")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            # Time stamps take 12 of them.
            assert _told(rig.networks, "s", "mss") == size - 12


def _take(networks: Row, network: str, how: str, size: int) -> None:
    """Has the peer there take segments of at most so much payload, options included."""
    if how == "mtu":
        networks.run(network, "ip", "link", "set", "balancer", "mtu", str(size + 40))
        return
    address = {"c": CLIENT, "s": SERVER}[network]
    subnet = address.rpartition(".")[0] + ".0/24"
    route = f"{subnet} dev balancer proto kernel scope link src {address} advmss {size}"
    networks.run(network, "ip", "route", "change", *route.split())


def _sockets(networks: Row, network: str) -> str:
    """What `ss` says of a peer's connection."""
    which = ("state", "established", f"( sport = {PORT} or dport = {PORT} )")
    return networks.run(network, "ss", "--no-header", "-tino", *which)


def _told(networks: Row, network: str, name: str, default: int | None = None) -> int:
    """A number that `ss` says of it; `default` where it doesn't."""
    words = _sockets(networks, network).split()
    found = [int(word.partition(":")[2]) for word in words if word.startswith(f"{name}:")]
    if not found and default is not None:
        return default
    (number,) = found
    return number


@pytest.mark.parametrize("scaling", ["1", "0"])
@pytest.mark.parametrize("receiver", ["c", "s"])
def test_a_window_that_is_shut(tmp_path: Path, receiver: str, scaling: str) -> None:
    """One that reads nothing for a while, with a tiny buffer: who speaks asks for a window."""
    reads = threading.Event()

    def serves(stream: Stream) -> None:
        stream.send(GREETING)
        # A word of each, so that both have heard of the other's window.
        stream.send(stream.line())
        if receiver == "c" or reads.wait(LIMIT):
            while piece := stream.socket.recv(_SIZE):
                stream.send(piece)

    with row() as networks:
        networks.run("l", "sysctl", f"net.ipv4.tcp_window_scaling={scaling}")
        # A buffer that a program asks for makes the scale smaller as well; this one doesn't.
        networks.run(receiver, "sysctl", f"{_RECEIVE_BUFFERS}={_TINY}")
        networks.run(receiver, "sysctl", "net.ipv4.tcp_moderate_rcvbuf=0")
        config = rig_configuration(tmp_path)
        with serving_there(networks, serves), kernel_rig(networks, tmp_path, config) as rig:
            with rig.client() as client:
                client.expect("220")
                until(lambda: rig.flows() == 1, "the session to be a flow")
                client.expect("NOOP", "NOOP")
                said = os.urandom(_SIZE)
                saying = threading.Thread(target=client.send, args=(said,))
                saying.start()
                sender = {"c": "s", "s": "c"}[receiver]
                until(lambda: _asks(networks, sender), "it to be asked for in vain")
                reads.set()
                assert client.read(_SIZE) == said
                saying.join()
            assert rig.record()["path"] == "kernel"


def _asks(networks: Row, network: str) -> bool:
    """Whether a window there has been asked for twice, and is shut."""
    said = _sockets(networks, network)
    return "timer:(persist" in said and _told(networks, network, "backoff", 0) >= 2


@pytest.mark.parametrize("network", ["c", "s"])
def test_keepalives(tmp_path: Path, network: str) -> None:
    """They are answered by the other peer, and are nothing that is said: silence goes on."""
    over = threading.Event()

    def serves(stream: Stream) -> None:
        if network == "s":
            _keep_alive(stream.socket)
        stream.send(GREETING)
        over.wait(LIMIT)

    config = rig_configuration(tmp_path)
    config["listeners"]["mx"]["timeouts"] = {"idle_client": "4s", "i_accept_duplicates": True}
    with rig_before(tmp_path, serves, config) as rig:
        with rig.client() as client:
            if network == "c":
                _keep_alive(client.socket)
            client.expect("220")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            heard = _told(rig.networks, network, "segs_in")
            # Acknowledgements, since nobody says anything.
            until(lambda: _told(rig.networks, network, "segs_in") >= heard + 2, "answers")
            # A single one that isn't answered would have been the end, by ETIMEDOUT.
            with pytest.raises(ConnectionResetError):
                client.line()
        over.set()
        record = rig.record()
    assert (record["path"], record["end_reason"]) == ("kernel", "idle_client")
    assert record["duration_ms"] >= 4000


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT):
        connection.setsockopt(socket.IPPROTO_TCP, option, 1)


def test_both_close_at_once(tmp_path: Path) -> None:
    """Neither has heard of the other's end when it says its own."""
    closes, closed = threading.Event(), threading.Event()

    def serves(stream: Stream) -> None:
        stream.send(GREETING)
        if closes.wait(LIMIT):
            stream.end()
            closed.set()
            assert stream.rest() == b""

    with rig_before(tmp_path, serves) as rig:
        with rig.client() as client:
            client.expect("220")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            # What comes is lost, and comes again once both have spoken.
            _go_deaf(rig.networks)
            client.socket.shutdown(socket.SHUT_WR)
            closes.set()
            assert closed.wait(LIMIT)
            until(lambda: _ends(rig.networks) == 2, "both to wait for the other")
            for network in "cs":
                rig.networks.run(network, "nft", "delete", "table", "inet", "deaf")
            assert client.rest() == b""
        record = rig.record()
        assert record["path"] == "kernel"
        assert record["end_reason"] in ("client_closed", "server_closed")
        assert rig.flows() == 0


def _go_deaf(networks: Row) -> None:
    """No segment comes to anybody."""
    rule = "type filter hook input priority 0;\n meta l4proto tcp drop"
    for network in "cs":
        networks.run(network, "nft", f"table inet deaf {{\n chain in {{\n {rule}\n }}\n}}")


def _ends(networks: Row) -> int:
    """How many peers have said their end, which isn't acknowledged."""
    said = [networks.run(one, "ss", "--no-header", "-tn", "state", "fin-wait-1") for one in "cs"]
    return sum(map(bool, said))
