"""Flows in networks of other shapes, and what routers and restarted hosts say about them."""

import os
import socket
import struct
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from harness.clients.dialogue import Address, Client
from harness.clients.forged import ACK, MORE, PSH, forge, too_big
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
from harness.networks.row import LISTENER, Row, pins, row
from harness.servers.exact import echo, exchange
from harness.servers.scripted import Stream, serving
from harness.waiting import LIMIT, until
from scenarios.bpf_links import take_off

_SIZE = 300_000
_NEIGHBOUR = "10.1.0.9"  # a server where the clients are
_TCP_REPAIR = 19  # linux/tcp.h
_LEAST_WAY = 1280
_IPV4 = 0x0800

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


def _have_been(rig: Rig, what: str, times: int) -> bool:
    """Whether that became of so many segments."""
    return rig.balancer.metric("mailweir_kernel_path_segments_total", what=what) == times


def _begin(rig: Rig, client: Client) -> None:
    client.expect("220")
    client.expect("250", "EHLO client.test")
    until(lambda: rig.flows() == 1, "the session to be a flow")


def test_one_arm(tmp_path: Path) -> None:
    """Clients and servers are in one network: all segments come and go by the same interface."""
    config = rig_configuration(tmp_path)
    config["pools"]["farm"]["servers"] = {"a": f"{_NEIGHBOUR}:{PORT}"}
    with row() as networks:
        networks.run("c", "ip", "address", "add", f"{_NEIGHBOUR}/24", "dev", "balancer")
        with (
            serving(
                echo, (_NEIGHBOUR, PORT), lambda make: networks.inside("c", make).result(LIMIT)
            ),
            kernel_rig(networks, tmp_path, config) as rig,
        ):
            assert networks.inside("c", partial(exchange, _SIZE)).result(LIMIT)
            record = rig.record()
    assert (record["path"], record["end_reason"]) == ("kernel", "client_closed")
    assert record["received_bytes"] == _SIZE + 20 * len(b"NOOP\r\n")


@pytest.mark.parametrize("how", ["forgets", "resets", "is_killed"])
def test_a_client_comes_back_from_the_same_port(tmp_path: Path, how: str) -> None:
    """Of a host that was restarted nobody has told the server. It says where the old connection
    is, the client resets that, and its next SYN begins a session (RFC 9293, 3.5.1), by the relay:
    a place is kept until its record is in the log.
    """
    reason = {"forgets": "client_lost", "resets": "client_lost", "is_killed": "killed"}[how]
    with rig_before(tmp_path, polite) as rig:
        client = _from(rig.networks, 45_000)
        _begin(rig, client)
        if how == "forgets":
            client.socket.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
        elif how == "resets":
            linger = struct.pack("ii", 1, 0)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        else:
            (session,) = rig.sessions()
            assert rig.balancer.command("kill", session["id"]).returncode == 0
            with pytest.raises(ConnectionResetError):
                client.line()
        client.close()
        if how != "forgets":
            rig.record()
        with _from(rig.networks, 45_000) as again:
            again.expect("220")
            again.expect("250", "EHLO client.test")
            again.mail()
        until(lambda: len(rig.balancer.session_log()) == 2, "both in the log")
        ends = [(line["path"], line["end_reason"]) for line in rig.balancer.session_log()]
        # Who forgets comes back at once, before or after the log was written.
        came_early = how == "forgets" and rig.relayed("busy")
        assert ends == [("kernel", reason), ("copy" if came_early else "kernel", "client_quit")]


def _from(networks: Row, port: int) -> Client:
    return networks.inside("c", lambda: Client((LISTENER, PORT), source=port)).result(LIMIT)


@pytest.mark.parametrize("sender", ["c", "s"])
def test_a_router_takes_only_smaller_segments(tmp_path: Path, sender: str) -> None:
    """Its word is passed on to who said too much, unless it is about what nobody waits for."""
    said, says = os.urandom(_SIZE), threading.Event()

    def serves(stream: Stream) -> None:
        stream.send(GREETING)
        stream.send(stream.line())
        if sender == "s" and says.wait(LIMIT):
            stream.send(said)
        while piece := stream.socket.recv(_SIZE):
            stream.send(piece)

    with rig_before(tmp_path, serves) as rig:
        networks = rig.networks
        receiver = {"c": "s", "s": "c"}[sender]
        with rig.client() as client:
            client.expect("220")
            client.expect("NOOP", "NOOP")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            until(lambda: "unacked:" not in _connection(networks, sender), "acknowledgements")
            usual = _mss(networks, sender)
            words = said if sender == "c" else b""
            # Nothing is acknowledged any more, so that what is said is on its way.
            where = f"tcp {'dport' if receiver == 'c' else 'sport'} {PORT}"
            rule = f"type filter hook output priority 0;\n {where} drop"
            with networks.inside(receiver, _listen).result(LIMIT) as wire:
                networks.run(receiver, "nft", f"table inet deaf {{\n chain x {{\n {rule}\n }}\n}}")
                says.set()
                saying = threading.Thread(target=client.send, args=(words,))
                saying.start()
                packet = _with_payload(wire)
            # Of what is acknowledged, and of what nobody has said.
            for times, distance in enumerate((-1, _SIZE), 1):
                _tell(networks, receiver, _moved(packet, distance))
                until(partial(_have_been, rig, "dropped_too_big", times), "it to be dropped")
            assert _mss(networks, sender) == usual
            _tell(networks, receiver, packet)
            # Without 20 of IP, 20 of TCP and 12 of time stamps. It said less, and for others that
            # would count as well.
            until(lambda: _mss(networks, sender) == _LEAST_WAY - 52, "segments to be smaller")
            networks.run(receiver, "nft", "delete", "table", "inet", "deaf")
            assert client.read(_SIZE) == said
            saying.join()
        record = rig.record()
    assert (record["path"], record["end_reason"]) == ("kernel", "client_closed")


def _connection(networks: Row, network: str) -> str:
    """What `ss` says of a peer's connection."""
    which = ("state", "established", f"( sport = {PORT} or dport = {PORT} )")
    return networks.run(network, "ss", "--no-header", "-tin", *which)


def _mss(networks: Row, network: str) -> int:
    """Payload in a segment of it."""
    words = _connection(networks, network).split()
    (found,) = [word for word in words if word.startswith("mss:")]
    return int(found.partition(":")[2])


def _listen() -> socket.socket:
    """What comes to a peer, before anything is done with it."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_IPV4))
    wire.settimeout(LIMIT)
    return wire


def _with_payload(wire: socket.socket) -> bytes:
    """The next segment that comes and has some."""
    while True:
        packet, (*_, kind, _, _) = wire.recvfrom(1 << 16)
        ports = struct.unpack_from("!HH", packet, 20)
        if kind == socket.PACKET_HOST and PORT in ports and len(packet) > 1000:
            return packet


def _moved(packet: bytes, distance: int) -> bytes:
    """As if it had another sequence number."""
    (number,) = struct.unpack_from("!I", packet, 24)
    return packet[:24] + struct.pack("!I", (number + distance) % 2**32) + packet[28:]


def _tell(networks: Row, network: str, packet: bytes) -> None:
    networks.inside(network, lambda: too_big(packet, 600)).result(LIMIT)


def test_a_reload(tmp_path: Path) -> None:
    """A flow goes on with what it began with, whatever the configuration says now."""
    config = rig_configuration(tmp_path)
    with (
        row() as networks,
        serving_there(networks, polite),
        kernel_rig(networks, tmp_path, config) as rig,
        rig.client() as client,
    ):
        _begin(rig, client)
        servers = config["pools"]["farm"]["servers"]
        servers["b"] = servers.pop("a")
        rig.balancer.write(config | {"forwarding": "relay"})
        assert rig.balancer.command("reload").returncode == 0
        until(lambda: rig.balancer.server_is("b", "up"), "the new server to be up")
        with rig.client() as another:
            another.expect("220")
            another.mail()
        assert (rig.record()["path"], rig.record()["server"]) == ("copy", "b")
        assert [one["server"] for one in rig.sessions()] == ["a"]
        client.mail()
        client.close()
        record = rig.record(2)
    assert (record["path"], record["server"]) == ("kernel", "a")
    assert record["end_reason"] == "client_quit"


@pytest.mark.parametrize(
    ("more", "reason"),
    [({"max_flows": 2}, "table_full"), ({"source_ports": "10000-10001"}, "no_port")],
)
def test_no_more_than_there_are(tmp_path: Path, more: dict[str, object], reason: str) -> None:
    """The relay serves those that find no place or no port; the others go on."""
    config = rig_configuration(tmp_path, **more)
    with (
        row() as networks,
        serving_there(networks, polite),
        kernel_rig(networks, tmp_path, config) as rig,
        ExitStack() as exits,
    ):
        clients = [exits.enter_context(rig.client()) for _ in range(3)]
        for client in clients:
            client.expect("220")
        until(lambda: rig.flows() == 2, "two to be flows")
        assert rig.relayed(reason) == 1
        for client in clients:
            client.expect("250", "EHLO client.test")
            client.mail()
            client.close()
        until(lambda: len(rig.balancer.session_log()) == 3, "all in the log")
        log = rig.balancer.session_log()
    assert sorted(line["path"] for line in log) == ["copy", "kernel", "kernel"]
    assert {line["end_reason"] for line in log} == {"client_quit"}


@pytest.mark.parametrize("what", ["ingress:clients", "ingress:servers", "guard:clients"])
def test_the_program_is_taken_off(tmp_path: Path, what: str) -> None:
    """By somebody else: it is attached again, and the session goes on."""
    before = pins()
    with rig_before(tmp_path, polite) as rig, rig.client() as client:
        _begin(rig, client)
        (folder,) = pins() - before
        take_off(folder / what)
        client.expect("250", "NOOP")
        seen = partial(rig.balancer.metric, "mailweir_kernel_path_taken_off_total")
        until(lambda: seen() == 1, "it to be attached again")
        client.expect("221", "QUIT")
        client.close()
        assert rig.record()["end_reason"] == "client_quit"
        with rig.client() as another:
            _begin(rig, another)
            another.mail()
        assert rig.record(2)["path"] == "kernel"


def test_fragments_are_dropped(tmp_path: Path) -> None:
    """A fragment can't be rewritten, and the stack has no socket for it: the flow goes on."""
    with rig_before(tmp_path, polite) as rig:
        with rig.client() as client:
            _begin(rig, client)
            of_client: Address = client.socket.getsockname()
            to = (LISTENER, PORT)
            payload = b"RSET\r\n" + bytes(18)
            rig.networks.inside(
                "c", lambda: forge(of_client, to, PSH | ACK, 1, payload, fragment=MORE)
            ).result(LIMIT)
            until(partial(_have_been, rig, "dropped_fragment", 1), "it to be counted")
            client.expect("250", "NOOP")
            client.mail()
        record = rig.record()
    assert (record["path"], record["end_reason"]) == ("kernel", "client_quit")
