"""How sessions on the kernel path begin and end: what the peers see, and what the record says."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.clients.dialogue import Address, Client
from harness.clients.forged import ACK, FIN, PSH, RST, SYN, forge
from harness.machine.proc import own_memory
from harness.mailweir.kernel_rig import (
    GREETING,
    PORT,
    Rig,
    polite,
    rig_before,
    rig_configuration,
)
from harness.networks.row import LISTENER, SERVER, Row
from harness.scale import count
from harness.servers.scripted import Stream
from harness.waiting import until

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")

_TRACKED = count(20, 500)
_LINES = b"220-and so on\r\n" * 4096
_STREAMED = 512 * len(_LINES)

Counted = Callable[[str], None]


@pytest.mark.needs("tcpdump")
def test_a_session_says_where_it_is(tmp_path: Path) -> None:
    with rig_before(tmp_path, polite) as rig:
        with rig.client() as client:
            client.expect("220")
            client.expect("250", "EHLO client.test")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            # Counts are brought up to date each second.
            until(lambda: rig.sessions()[0]["received_bytes"] == 18, "what it said to be counted")
            (session,) = rig.sessions()
            assert (session["server"], session["spoke_last"]) == ("a", "server")
            assert "1 flows" in rig.balancer.command("status").stdout
            shown = rig.balancer.command("sessions", "--tcpdump").stdout
            assert shown == f"{session['tcpdump']}\n"
            assert "ret" in rig.networks.run("l", "tcpdump", "-d", *shown.split())
            client.mail()
        record = rig.record()
        assert (record["path"], record["end_reason"]) == ("kernel", "client_quit")
        until(lambda: rig.balancer.status()["sessions"] == 0, "no session to be left")
        assert rig.balancer.servers()["a"]["active"] == 0


def test_a_greeting_of_several_lines(tmp_path: Path) -> None:
    """The teaser comes when it is sent; the session is handed over with the last line."""
    goes_on = threading.Event()

    def teases(stream: Stream) -> None:
        stream.send(b"220-mx.server.test please wait\r\n")
        goes_on.wait(20)
        polite(stream)

    with rig_before(tmp_path, teases) as rig:
        with rig.client() as client:
            assert client.line().startswith("220-")
            goes_on.set()
            client.expect("220")
            client.expect("250", "EHLO client.test")
            client.mail()
        record = rig.record()
        assert (record["path"], record["end_reason"]) == ("kernel", "client_quit")


def test_a_greeting_without_end(tmp_path: Path) -> None:
    """No more is kept of it than may be: the relay carries it, and holds nothing."""
    said = threading.Event()

    def streams(stream: Stream) -> None:
        for _ in range(_STREAMED // len(_LINES)):
            stream.send(_LINES)
        if said.wait(20):
            polite(stream)

    with rig_before(tmp_path, streams) as rig:
        pid = rig.balancer.process.pid
        before = own_memory(pid)
        with rig.client() as client:
            assert len(client.read(_STREAMED)) == _STREAMED
            grown = own_memory(pid) - before
            said.set()
            client.expect("220")
            client.expect("250", "EHLO client.test")
            client.mail()
        assert rig.record()["path"] in ("copy", "splice")
        assert rig.relayed("greeting") == 1
    assert grown < _STREAMED / 4


def test_an_early_talker_takes_the_relay(tmp_path: Path) -> None:
    talked = threading.Event()

    def waits(stream: Stream) -> None:
        if talked.wait(20):
            polite(stream)

    with rig_before(tmp_path, waits) as rig:
        with rig.client() as client:
            client.send(b"EHLO client.test\r\n")
            until(lambda: len(rig.sessions()) == 1, "the client to be accepted")
            talked.set()
            client.expect("220")
            client.expect("250")
            client.mail()
        assert rig.record()["path"] == "copy"
        assert rig.relayed("early_talker") == 1


def test_a_port_is_free_once_its_socket_is_closed(tmp_path: Path) -> None:
    """A session that the kernel path didn't take goes on by the port that it was dialled from."""
    talked = threading.Event()

    def waits(stream: Stream) -> None:
        if talked.wait(20):
            polite(stream)

    config = rig_configuration(tmp_path, source_ports="20000-20000")
    with rig_before(tmp_path, waits, config) as rig:
        with rig.client() as early:
            early.send(b"EHLO client.test\r\n")
            until(lambda: len(rig.sessions()) == 1, "the client to be accepted")
            talked.set()
            early.expect("220")
            early.expect("250")
            with rig.client() as client:
                client.expect("220")
                client.expect("250", "EHLO client.test")
                client.mail()
            assert rig.record()["path"] == "copy"
            assert (rig.relayed("early_talker"), rig.relayed("no_port")) == (1, 1)
            early.mail()
        rig.record(2)
        with rig.client() as client:
            client.expect("220")
            client.expect("250", "EHLO client.test")
            client.mail()
        assert rig.record(3)["path"] == "kernel"
        assert rig.relayed("no_port") == 1


def test_a_server_that_closes_behind_its_greeting(tmp_path: Path) -> None:
    with rig_before(tmp_path, lambda stream: stream.send(GREETING)) as rig:
        with rig.client() as client:
            client.expect("220")
            assert client.rest() == b""
        assert rig.record()["end_reason"] == "server_closed"


def test_a_client_that_closes_before_the_greeting(tmp_path: Path) -> None:
    closed = threading.Event()

    def waits(stream: Stream) -> None:
        if closed.wait(20):
            polite(stream)

    with rig_before(tmp_path, waits) as rig:
        rig.client().close()
        until(lambda: len(rig.sessions()) == 1, "the client to be accepted")
        closed.set()
        record = rig.record()
        assert (record["path"], record["end_reason"]) == ("copy", "client_closed")


@pytest.mark.parametrize("direction", ["greeting", "acknowledgement"])
def test_a_greeting_that_is_lost(tmp_path: Path, direction: str) -> None:
    """It is sent again, by our own socket, until the client has acknowledged it."""
    with rig_before(tmp_path, polite) as rig:
        _lose_first(rig.networks, direction)
        with rig.client() as client:
            client.expect("220")
            client.expect("250", "EHLO client.test")
            client.mail()
        record = rig.record()
        assert (record["path"], record["end_reason"]) == ("kernel", "client_quit")


def _lose_first(networks: Row, direction: str) -> None:
    """Of the segments behind the handshake, the first two of one kind don't arrive."""
    if direction == "greeting":
        # With payload: the handshake has none.
        hook, match = "input", f"tcp sport {PORT} meta length > 60"
        rule = f"{match} numgen inc mod 1000 vmap {{ 0 : drop, 1 : drop }}"
    else:
        # The first of this length is the handshake's own.
        hook, match = "output", f"tcp dport {PORT} meta length 52"
        rule = f"{match} numgen inc mod 1000 vmap {{ 1 : drop, 2 : drop }}"
    chain = f"type filter hook {hook} priority 0;"
    networks.run("c", "nft", f"table inet first {{\n chain x {{\n {chain}\n {rule}\n }}\n}}")


def test_a_peer_that_resets(tmp_path: Path) -> None:
    def resets(stream: Stream) -> None:
        stream.send(GREETING)
        if stream.line():
            stream.reset()

    with rig_before(tmp_path, resets) as rig:
        with rig.client() as client:
            client.expect("220")
            with pytest.raises(ConnectionResetError):
                client.expect("250", "EHLO client.test")
        record = rig.record()
        assert (record["path"], record["end_reason"]) == ("kernel", "server_lost")


def test_a_server_that_says_421(tmp_path: Path) -> None:
    def refuses(stream: Stream) -> None:
        stream.send(GREETING)
        if stream.line():
            stream.send(b"421 4.3.2 not now\r\n")

    with rig_before(tmp_path, refuses) as rig:
        with rig.client() as client:
            client.expect("220")
            client.expect("421", "EHLO client.test")
            assert client.rest() == b""
        assert rig.record()["end_reason"] == "server_421"


def test_a_cut_inside_data(tmp_path: Path) -> None:
    with rig_before(tmp_path, polite) as rig:
        with rig.client() as client:
            client.begin_mail()
            client.send(b"half a line")
        record = rig.record()
        assert (record["end_reason"], record["in_data"]) == ("cut_in_data", True)


@pytest.mark.parametrize("how", ["kill", "idle_client", "idle_server", "deadline"])
def test_a_flow_is_ended_from_outside(tmp_path: Path, how: str) -> None:
    """Both peers hear of it by a reset, and the record says why."""
    heard = threading.Event()

    def notices(stream: Stream) -> None:
        stream.send(GREETING)
        try:
            while line := stream.line():
                if line != b"NOOP\r\n":
                    stream.send(b"250 fine\r\n")
        except ConnectionResetError:
            heard.set()

    config = rig_configuration(tmp_path)
    limits = {"i_accept_duplicates": True}
    if how.startswith("idle"):
        config["listeners"]["mx"]["timeouts"] = {how: "1s", **limits}
    config["drain"] = {"deadline": "1s", "spread": "0s"}
    with rig_before(tmp_path, notices, config) as rig:
        with rig.client() as client:
            client.expect("220")
            client.expect("250", "EHLO client.test")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            if how == "kill":
                (session,) = rig.sessions()
                assert rig.balancer.command("kill", session["id"]).returncode == 0
            elif how == "idle_server":
                client.send(b"NOOP\r\n")
            elif how == "deadline":
                assert rig.balancer.command("drain", "farm/a").returncode == 0
            with pytest.raises(ConnectionResetError):
                client.line()
        assert heard.wait(20), "the server hears of it"
        expected = {"kill": "killed", "deadline": "drain_deadline"}.get(how, how)
        record = rig.record()
        assert (record["path"], record["end_reason"]) == ("kernel", expected)
        assert rig.flows() == 0


def test_a_third_party_moves_nothing(tmp_path: Path) -> None:
    """Segments with the right addresses and ports, and numbers that are guessed."""
    with rig_before(tmp_path, polite) as rig:
        with rig.client() as client:
            client.expect("220")
            client.expect("250", "EHLO client.test")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            of_client = client.socket.getsockname()
            (of_server,) = rig.dialled_from()
            for network, sender, receiver in (
                ("c", of_client, (LISTENER, PORT)),
                ("s", (SERVER, PORT), of_server),
            ):
                _guess(rig.networks, network, sender, receiver)
            client.expect("250", "NOOP")
            client.mail()
        record = rig.record()
    commands = ["EHLO client.test", "NOOP", "MAIL FROM:<sender@client.test>"]
    commands += ["RCPT TO:<box@server.test>", "DATA"]
    commands += ["Subject: hello", "", "hello", ".", "QUIT"]
    assert record["received_bytes"] == len("".join(f"{command}\r\n" for command in commands))
    assert (record["path"], record["end_reason"]) == ("kernel", "client_quit")


def _guess(networks: Row, network: str, sender: Address, receiver: Address) -> None:
    def send() -> None:
        for number in range(16):
            for flags in (SYN, RST, RST | ACK, FIN | ACK, PSH | ACK):
                payload = b"QUIT\r\n" if flags & PSH else b""
                forge(sender, receiver, flags, number << 28, payload)

    networks.inside(network, send).result(20)


def test_the_relay_is_taken_where_it_is_told(tmp_path: Path) -> None:
    config = rig_configuration(tmp_path, forwarding="auto")
    config["listeners"]["mx"]["forwarding"] = "relay"
    with rig_before(tmp_path, polite, config) as rig:
        with rig.client() as client:
            client.expect("220")
            client.expect("250", "EHLO client.test")
            client.mail()
        assert rig.record()["path"] == "copy"


def test_the_same_port_again(tmp_path: Path) -> None:
    """A client that comes back from its old port while its last session lingers."""
    with rig_before(tmp_path, polite) as rig:
        for number in range(1, 4):
            with _client_from(rig, 45_000) as client:
                client.expect("220")
                client.expect("250", "EHLO client.test")
                client.mail()
            assert rig.record(number)["end_reason"] == "client_quit"


def _client_from(rig: Rig, port: int) -> Client:
    return rig.networks.inside("c", lambda: Client((LISTENER, PORT), source=port)).result(20)


@pytest.mark.parametrize("how", ["anew", "down"])
@pytest.mark.parametrize("network", ["c", "s"])
def test_an_interface_is_gone_for_a_while(tmp_path: Path, network: str, how: str) -> None:
    """Its segments are seen again, and find their way, also where it has another number."""
    leg = {"c": "clients", "s": "servers"}[network]
    with rig_before(tmp_path, polite) as rig:
        with rig.client() as client:
            client.expect("220")
            client.expect("250", "EHLO client.test")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            if how == "anew":
                rig.networks.run("l", "ip", "link", "delete", leg)
                rig.networks.connect(network)
            else:
                rig.networks.run("l", "ip", "link", "set", leg, "down")
                client.send(b"NOOP\r\n")
                rig.networks.run("l", "ip", "link", "set", leg, "up")
                client.expect("250")
            client.expect("250", "NOOP")
            client.mail()
        record = rig.record()
    assert (record["path"], record["end_reason"]) == ("kernel", "client_quit")


def test_connection_tracking_keeps_no_flow(tmp_path: Path, counted: Counted) -> None:
    tracked = threading.Event()

    def waits(stream: Stream) -> None:
        if tracked.wait(20):
            polite(stream)

    with rig_before(tmp_path, waits) as rig:
        rig.track()
        with ExitStack() as exits:
            clients = [exits.enter_context(rig.client()) for _ in range(_TRACKED)]
            # Those of clients, and those with servers.
            until(lambda: rig.tracked() == 2 * _TRACKED, "all to be tracked")
            tracked.set()
            for client in clients:
                client.expect("220")
                client.expect("250", "EHLO client.test")
            until(lambda: rig.flows() == _TRACKED, "all to be flows")
            until(lambda: rig.tracked() == 0, "all to be forgotten")
            for client in clients:
                client.expect("250", "NOOP")
            assert rig.tracked() == 0
    counted(f"{_TRACKED} flows: {2 * _TRACKED} entries before, none later")
