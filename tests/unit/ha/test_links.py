"""Links: who is listened to, over which link, under which key."""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import cast

import pytest
import structlog

from harness.waiting import until
from mailweir.config.ha import Ha
from mailweir.errors import StartError
from mailweir.ha import links as ha_links
from mailweir.ha.links import Links, keyed
from mailweir.ha.machine.facts import Settings
from mailweir.ha.machine.known import Known
from mailweir.ha.machine.wire import Kind, Message, Refusal
from mailweir.ha.settings import settings_of

KEYS = {1: b"1" * 32, 2: b"2" * 32}


def free_ports(number: int) -> list[int]:
    with ExitStack() as exits:
        made = [exits.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(number)]
        for one in made:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in made]


def pair(x: str = "127.0.0.1", y: str = "127.0.0.1") -> Ha:
    ports = iter(free_ports(4))
    at = {"x": x, "y": y}
    links = {node: {link: f"{at[link]}:{next(ports)}" for link in at} for node in "ab"}
    return Ha.model_validate(
        {
            "nodes": {node: {"links": links[node]} for node in "ab"},
            "virtual": [{"address": "192.0.2.10/24", "dev": "eth0"}],
            "keys": {"1": "/k1"},
        }
    )


def said_by(settings: Settings) -> Message:
    return Known(settings, epoch=5, now=100.0).message(Kind.HELLO, 100.0)


class Both:
    """Two nodes on loopback."""

    def __init__(self) -> None:
        ha = pair()
        self.settings = {node: settings_of(ha, node) for node in "ab"}
        self.links = {node: Links(ha, node, KEYS) for node in "ab"}

    def send(self, node: str, *, newest: int | None = 2) -> None:
        message = said_by(self.settings[node])
        self.links[node].send(message, to_witness=False, peer_newest=newest)

    def heard(self, node: str, number: int) -> list[tuple[Message, int]]:
        found: list[tuple[Message, int]] = []

        def all_there() -> bool:
            found.extend(self.links[node].receive())
            return sum(self.links[node].received.values()) >= number

        until(all_there, f"{number} datagrams")
        return found


@pytest.fixture
def both() -> Iterator[Both]:
    made = Both()
    for one in made.links.values():
        one.open()
    yield made
    for one in made.links.values():
        one.close()


def test_over_every_link(both: Both) -> None:
    both.send("a")
    message = said_by(both.settings["a"])
    assert sorted(both.heard("b", 2), key=lambda it: it[1]) == [(message, 1), (message, 2)]
    assert both.links["a"].sent == {1: 1, 2: 1}


def test_a_peer_that_is_not_there_yet(both: Both) -> None:
    both.links["b"].close()
    both.send("a")
    both.links["b"].open()
    # What was refused before is told by the next one, which isn't lost for it.
    both.send("a")
    assert len(both.heard("b", 2)) == 2


def test_others_are_not_even_received(both: Both) -> None:
    address = both.links["b"].sockets()[0].getsockname()
    with socket.socket(type=socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"x" * 144, address)
    both.send("a")
    assert len(both.heard("b", 2)) == 2
    assert sum(both.links["b"].received.values()) == 2


def test_what_is_no_datagram_of_the_pair(both: Both) -> None:
    for one in both.links["a"].sockets():
        one.send(b"rubbish")
    both.send("a")
    assert len(both.heard("b", 4)) == 2
    assert both.links["b"].refused.counts == {Refusal.MALFORMED: 2}


def test_what_is_not_listened_to_is_said_once(both: Both) -> None:
    with structlog.testing.capture_logs() as said:
        for _ in range(3):
            for one in both.links["a"].sockets():
                one.send(b"rubbish")
        both.heard("b", 6)
    event = "datagrams that aren't listened to"
    assert said == [{"event": event, "log_level": "warning", "malformed": 1}]


def test_a_key_that_only_one_has(both: Both) -> None:
    both.links["a"].take_keys({**KEYS, 3: b"3" * 32})
    both.send("a", newest=2)
    assert len(both.heard("b", 2)) == 2


def test_until_the_peer_says_which_keys_it_has_all_are_tried(both: Both) -> None:
    both.links["b"].take_keys({1: KEYS[1]})
    both.send("a", newest=None)
    both.send("a", newest=None)
    assert len(both.heard("b", 4)) == 2
    assert both.links["b"].refused.counts == {Refusal.UNKNOWN_KEY: 2}


def test_the_newest_that_both_have() -> None:
    assert [keyed(dict.fromkeys((2, 3, 5), b""), newest) for newest in (5, 9, 4, 2, 1)] == [
        *(5, 5, 3, 2, 2)
    ]


def test_a_link_whose_address_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are used meanwhile, and this one once its address is there."""
    links = Links(pair(x="192.0.2.77"), "a", KEYS)
    links.open()
    try:
        assert links.numbers() == [2]
        assert links.absent == {1: "this machine doesn't have 192.0.2.77, or it isn't ready yet"}
        links.mend()
        assert (links.numbers(), links.needs_mending()) == ([2], True)
        connected = ha_links._connected
        monkeypatch.setattr(ha_links, "_connected", lambda own, peer: connected(None, peer))
        links.mend()
        assert (sorted(links.numbers()), links.absent) == ([1, 2], {})
        assert not links.needs_mending()
    finally:
        links.close()


def test_a_link_that_can_not_be_opened_again_keeps_no_other_shut(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else has its port by now."""
    links = both.links["a"]
    links._sockets.pop(1).close()
    connected = ha_links._connected

    def refused(_: object, __: object) -> socket.socket:
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(ha_links, "_connected", refused)
    links.mend()
    assert (links.numbers(), links.absent) == ([2], {1: "Address already in use"})
    monkeypatch.setattr(ha_links, "_connected", connected)
    links.mend()
    assert sorted(links.numbers()) == [1, 2]


class Stranded:
    """A socket whose address is gone."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real

    def send(self, _: bytes) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    def close(self) -> None:
        self._real.close()


def test_a_link_whose_address_went_and_is_back(both: Both) -> None:
    links = both.links["a"]
    links._sockets[1] = cast(socket.socket, Stranded(links.socket_of(1)))
    both.send("a")
    assert links.needs_mending()
    links.mend()
    assert (links.absent, links.needs_mending()) == ({}, False)
    both.send("a")
    assert sorted(link for _, link in both.heard("b", 3)) == [1, 2, 2]


def test_a_port_that_another_process_has_is_not_waited_for() -> None:
    ha = pair()
    first, second = Links(ha, "a", KEYS), Links(ha, "a", KEYS)
    first.open()
    try:
        with pytest.raises(StartError, match=r"ha\.nodes\.a\.links\.x: .*: Address already in use"):
            second.open()
        assert second.sockets() == []
    finally:
        first.close()


def test_a_key_that_is_not_ours_is_named(both: Both) -> None:
    both.links["a"].take_keys({2: b"other" * 7})
    both.send("a", newest=2)
    assert both.heard("b", 2) == []
    assert both.links["b"].misheard == {1: 2, 2: 2}
