"""What ends a flow whose process was killed: the next one's limits, and a drain told to that."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.kernel_rig import GREETING, Rig, kernel_rig, rig_configuration, serving_there
from harness.mailweir.run import Tree
from harness.networks.row import row
from harness.scale import LONG
from harness.servers.scripted import Stream
from harness.waiting import LIMIT, until

# A flow can't be read along with: that a silence is the one between two commands only its
# length tells.
_QUIET = 30.0  # seconds
_LONGEST = LIMIT + _QUIET
_DRAINED = ["drain_deadline", *(["drain"] if LONG else [])]

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


@dataclass(frozen=True)
class _Adopted:
    """A flow, and the process that goes on with it."""

    rig: Rig
    client: Client
    server_reset: threading.Event

    def both_hear_of_its_end(self) -> None:
        """By a reset."""
        self.client.socket.settimeout(_LONGEST)
        with pytest.raises(ConnectionResetError):
            self.client.line()
        assert self.server_reset.wait(LIMIT), "the server hears of it"


@contextmanager
def _adopted(directory: Path, config: Tree, ask: str = "") -> Iterator[_Adopted]:
    """A session that a process left in the kernel when it was killed, and one that begins with
    another configuration. The server answers EHLO and nothing else; it spoke last unless the
    client asks for something.
    """
    reset = threading.Event()

    def serves(stream: Stream) -> None:
        stream.socket.settimeout(_LONGEST)
        stream.send(GREETING)
        try:
            while line := stream.line():
                if line.startswith(b"EHLO"):
                    stream.send(b"250 fine\r\n")
        except ConnectionResetError:
            reset.set()

    with row() as networks, serving_there(networks, serves):
        with kernel_rig(networks, directory, rig_configuration(directory)) as rig:
            client = rig.client()
            client.expect("220")
            client.expect("250", "EHLO client.test")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            if ask:
                client.send(ask.encode())
                until(lambda: rig.sessions()[0]["spoke_last"] == "client", "it to be heard")
            (session,) = rig.sessions()
            rig.balancer.process.kill()
        with client, kernel_rig(networks, directory, config) as rig:
            yield _Adopted(rig, client, reset)
            record = rig.record()
            assert (record["id"], record["path"]) == (session["id"], "kernel")
            assert rig.balancer.metric("mailweir_kernel_path_adopted_total") == 1
            assert (rig.flows(), rig.balancer.servers()["a"]["active"]) == (0, 0)


@pytest.mark.parametrize(("limit", "ask"), [("idle_client", ""), ("idle_server", "NOOP\r\n")])
def test_an_idle_limit(tmp_path: Path, limit: str, ask: str) -> None:
    config = rig_configuration(tmp_path)
    config["listeners"]["mx"]["timeouts"] = {limit: "5s", "i_accept_duplicates": True}
    with _adopted(tmp_path, config, ask) as adopted:
        adopted.both_hear_of_its_end()
        assert adopted.rig.record()["end_reason"] == limit


@pytest.mark.parametrize("reason", _DRAINED)
def test_a_drain(tmp_path: Path, reason: str) -> None:
    """Where the server spoke last it is cut once it has been quiet, by which it was longer than the
    new process is there. Where it is waited for, only the deadline cuts it.
    """
    waited_for = reason == "drain_deadline"
    deadline = "2s" if waited_for else "10m"
    drain = {"deadline": deadline, "spread": "0s", "quiet": "1s"}
    config = rig_configuration(tmp_path, drain=drain)
    with _adopted(tmp_path, config, "NOOP\r\n" if waited_for else "") as adopted:
        assert adopted.rig.balancer.command("drain", "farm/a").returncode == 0
        adopted.both_hear_of_its_end()
        record = adopted.rig.record()
    assert record["end_reason"] == reason
    if not waited_for:
        assert record["duration_ms"] >= 1000 * _QUIET
