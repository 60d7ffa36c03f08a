"""A server that its checks call down while it still serves: its sessions stay, or end at once, as
the `on_down` of its pool says, on both paths. The checks go to a port of their own, so that a test
can have them fail.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.kernel_rig import (
    GREETING,
    PORT,
    Rig,
    kernel_rig,
    polite,
    rig_configuration,
    serving_there,
)
from harness.networks.row import SERVER, row
from harness.servers.scripted import Handle, Stream, serving_in
from harness.waiting import LIMIT, until

_CHECKED = PORT + 1
_WORDS = "the mail server is down, connect again"


@contextmanager
def _rig(
    directory: Path, forwarding: str, on_down: str, handle: Handle = polite
) -> Iterator[tuple[Rig, ExitStack]]:
    """mailweir before one server; once the stack is closed, the server's checks fail."""
    config = rig_configuration(directory, forwarding=forwarding)
    pace = {"every": "200ms", "fast": "100ms", "rise": 1, "fall": 1}
    check = {"kind": "greeting", "port": _CHECKED, **pace}
    # The only server: by default its pool would be in panic, and all sessions would stay.
    config["pools"]["farm"] |= {"check": check, "panic": "0%", "on_down": on_down}
    with row() as networks, serving_there(networks, handle), ExitStack() as checked:
        checked.enter_context(serving_in(networks, "s", (SERVER, _CHECKED), polite))
        with kernel_rig(networks, directory, config) as rig:
            yield rig, checked


def _greeted(rig: Rig, forwarding: str) -> Client:
    client = rig.client()
    client.expect("220")
    client.expect("250", "EHLO client.test")
    if forwarding == "kernel":
        until(lambda: rig.flows() == 1, "the session to be a flow")
    return client


@pytest.mark.parametrize("forwarding", ["relay", "kernel"])
def test_they_end(tmp_path: Path, forwarding: str) -> None:
    with _rig(tmp_path, forwarding, "end") as (rig, checked):
        with _greeted(rig, forwarding) as client:
            checked.close()
            if forwarding == "relay":
                assert client.line().endswith(_WORDS)
                assert client.rest() == b""
            else:
                with pytest.raises(ConnectionResetError):
                    client.line()
        record = rig.record()
        assert (record["end_reason"], record["end_by"]) == ("server_down", "balancer")
        assert rig.balancer.server_is("a", "down")
        assert rig.balancer.ended("server_down") == 1
        # Who comes now is refused as ever.
        with rig.client() as client:
            client.expect("421")


@pytest.mark.parametrize("forwarding", ["relay", "kernel"])
def test_they_stay_by_default(tmp_path: Path, forwarding: str) -> None:
    with _rig(tmp_path, forwarding, "leave") as (rig, checked):
        with _greeted(rig, forwarding) as client:
            checked.close()
            until(lambda: rig.balancer.server_is("a", "down"), "the checks to fail")
            client.mail()
        assert rig.record()["end_reason"] == "client_quit"


@pytest.mark.parametrize("forwarding", ["relay", "kernel"])
def test_one_in_the_middle_of_a_message(tmp_path: Path, forwarding: str) -> None:
    """Nothing is said to it, and the log says that the message may come twice."""
    with _rig(tmp_path, forwarding, "end") as (rig, checked):
        with rig.client() as client:
            client.begin_mail()
            client.send(b"half a line")
            checked.close()
            try:
                assert client.rest() == b""
            except ConnectionResetError:
                pass  # what it said wasn't read
        record = rig.record()
        assert (record["end_reason"], record["in_data"]) == ("cut_in_data", True)


def test_a_server_hears_of_it(tmp_path: Path) -> None:
    """One that is alive after all isn't left with a session that nobody has."""
    ends = threading.Event()

    def notices(stream: Stream) -> None:
        stream.send(GREETING)
        while line := stream.line():
            if line == b"QUIT\r\n":
                ends.set()
            stream.send(b"250 fine\r\n")

    with _rig(tmp_path, "relay", "end", notices) as (rig, checked), _greeted(rig, "relay"):
        checked.close()
        assert ends.wait(LIMIT), "QUIT"
