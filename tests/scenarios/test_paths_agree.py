"""The relay and the kernel path say the same of the same sessions."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.kernel_rig import GREETING, Rig, kernel_rig, rig_configuration, serving_there
from harness.mailweir.run import Tree
from harness.networks.row import row
from harness.servers.scripted import Stream
from harness.waiting import until

# What differs by itself, and the path.
_OTHERS = {
    *("id", "ts", "client", "client_port", "path", "in_data"),
    *("wait_ms", "connect_ms", "greeting_ms", "duration_ms"),
}

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


def _server(stream: Stream) -> None:
    """Takes mails, and leaves in each way that it is asked to."""
    stream.send(GREETING)
    in_data = False
    while line := stream.line():
        command = line.rstrip()
        if in_data and _leaves(stream, command):
            return
        if in_data:
            in_data = command != b"."
            if not in_data:
                stream.send(b"250 taken\r\n")
        elif command == b"DATA":
            in_data = True
            stream.send(b"354 go\r\n")
        elif command == b"QUIT":
            stream.send(b"221 bye\r\n")
            return
        elif command == b"NOOP leave":
            stream.send(b"421 4.3.2 leaving\r\n")
            return
        elif command == b"NOOP vanish":
            return
        elif command == b"NOOP reset":
            stream.reset()
            return
        else:
            stream.send(b"250 fine\r\n")


def _leaves(stream: Stream, line: bytes) -> bool:
    """Whether it does, in the middle of a message."""
    if line == b"reset later":
        stream.rest()
    if line in (b"reset", b"reset later"):
        stream.reset()
    return line in (b"vanish", b"reset", b"reset later")


def _closes(client: Client) -> None:
    client.expect("250", "NOOP")


def _closes_in_data(client: Client) -> None:
    client.expect("354", "DATA")
    client.send(b"half a li")


def _server_vanishes_in_data(client: Client) -> None:
    client.expect("354", "DATA")
    client.send(b"vanish\r\n")
    assert client.rest() == b""


def _server_resets_in_data(client: Client) -> None:
    client.expect("354", "DATA")
    client.send(b"reset\r\n")
    with pytest.raises(ConnectionResetError):
        client.line()


def _closes_in_data_and_is_reset(client: Client) -> None:
    client.expect("354", "DATA")
    client.send(b"reset later\r\n")
    client.socket.shutdown(1)
    with suppress(ConnectionResetError):
        client.rest()


def _is_told_421(client: Client) -> None:
    client.expect("421", "NOOP leave")
    assert client.rest() == b""


def _server_vanishes(client: Client) -> None:
    client.send(b"NOOP vanish\r\n")
    assert client.rest() == b""


def _server_resets(client: Client) -> None:
    client.send(b"NOOP reset\r\n")
    with pytest.raises(ConnectionResetError):
        client.line()


def _vanishes(client: Client) -> None:
    client.socket.shutdown(1)
    assert client.rest() == b""


_SESSIONS: tuple[Callable[[Client], None], ...] = (
    *(Client.mail, _closes, _closes_in_data, _is_told_421),
    *(_server_vanishes, _server_resets, _vanishes),
    *(_server_vanishes_in_data, _server_resets_in_data, _closes_in_data_and_is_reset),
)
# Of those.
_CUT_BY_THE_SERVER = 2


def test_what_is_logged_of_a_session(tmp_path: Path) -> None:
    logs = {}
    with row() as networks, serving_there(networks, _server):
        for path in ("relay", "kernel"):
            directory = tmp_path / path
            directory.mkdir()
            config = rig_configuration(directory, forwarding=path)
            with kernel_rig(networks, directory, config) as rig:
                logs[path] = [_logged(rig, play, n) for n, play in enumerate(_SESSIONS, 1)]
                # What is held against the server.
                name, cut = "mailweir_server_spoiled_sessions_total", {"reason": "cut_in_data"}
                assert rig.balancer.metric(name, **cut) == _CUT_BY_THE_SERVER, path
                # And what is counted of it.
                name = "mailweir_server_sessions_ended_total"
                reasons = Counter(line["end_reason"] for line in logs[path])
                for reason, times in reasons.items():
                    assert rig.balancer.metric(name, reason=reason) == times, (path, reason)
                name = "mailweir_server_session_seconds_count"
                assert rig.balancer.metric(name) == len(_SESSIONS), path
    assert {line["path"] for line in logs["kernel"]} == {"kernel"}
    assert "kernel" not in {line["path"] for line in logs["relay"]}
    for relayed, flowed, play in zip(logs["relay"], logs["kernel"], _SESSIONS, strict=True):
        # Of a flow it mostly isn't known.
        assert flowed["in_data"] in (None, relayed["in_data"]), play.__name__
        assert _comparable(flowed) == _comparable(relayed), play.__name__


def _logged(rig: Rig, play: Callable[[Client], None], number: int) -> Tree:
    with rig.client() as client:
        client.expect("220")
        client.expect("250", "EHLO client.test")
        play(client)
    until(lambda: len(rig.balancer.session_log()) == number, f"the record of {play.__name__}")
    return rig.balancer.session_log()[-1]


def _comparable(line: Tree) -> Tree:
    return {key: value for key, value in line.items() if key not in _OTHERS}
