"""A flood: what the kernel passes on of it, and when it begins and ends."""

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from mailweir.ha.flood import SAMPLE, Flood, Heard
from mailweir.ha.links import Links
from mailweir.ha.machine.wire import MOST_WORDS, Refusal, seal
from unit.ha.pairs import message
from unit.ha.test_links import KEYS, pair

# Numbers with both halves.
LIFE, OWN, EARLIER = (7 << 32) + 1, (9 << 32) + 2, (8 << 32) + 3
HEARD: Heard = (LIFE, 100, OWN, 200)
_SENT = 40 * SAMPLE


@pytest.fixture
def links() -> Iterator[Links]:
    made = Links(pair(), "a", KEYS)
    made.open()
    yield made
    made.close()


@pytest.fixture
def flood(links: Links) -> Flood:
    """That is on."""
    made = Flood(links, lambda _: HEARD)
    made.look(0.0)
    links.refused.counts[Refusal.FORGED] += 1000
    made.look(0.5)
    assert made.is_on
    return made


def passed(links: Links, datagram: bytes) -> int:
    """How many come through of many; no more are sent at a time than a socket keeps."""
    to, found = links.socket_of(1), 0
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.bind(to.getpeername())
        for _ in range(_SENT):
            sender.sendto(datagram, to.getsockname())
            with suppress(BlockingIOError):
                found += bool(to.recv(4096))
    return found


def said(epoch: int, seq: int, echo: tuple[int, int] = (OWN, 200)) -> bytes:
    told = message(epoch=epoch, seq=seq, echo_epoch=echo[0], echo_seq=echo[1])
    return seal(told, link=1, key_id=1, key=KEYS[1])


@pytest.mark.usefixtures("flood")
@pytest.mark.parametrize(
    "news",
    [
        said(LIFE, 101),
        said(LIFE, 2**32 - 1),
        said(EARLIER, 1, (OWN, 201)),
        said(LIFE, 101) + bytes(MOST_WORDS),
    ],
    ids=["next", "far ahead", "a new life that has heard us", "operators' words"],
)
def test_news_comes_through(links: Links, news: bytes) -> None:
    assert passed(links, news) == _SENT


@pytest.mark.usefixtures("flood")
@pytest.mark.parametrize(
    "old",
    [
        said(LIFE, 100),
        said(LIFE, 1),
        said(EARLIER, 101),
        said(EARLIER, 101, (EARLIER, 201)),
        said(LIFE, 101)[:-1],
        said(LIFE, 101) + bytes(MOST_WORDS + 1),
    ],
    ids=["heard", "old", "an earlier life", "of ours too", "cut", "too long"],
)
def test_of_the_rest_a_part_comes_through(links: Links, old: bytes) -> None:
    found = passed(links, old)
    assert _SENT / SAMPLE / 4 < found < _SENT / SAMPLE * 4


def test_without_a_flood_all_comes_through(links: Links) -> None:
    calm = Flood(links, lambda _: HEARD)
    calm.look(0.0)
    links.refused.counts[Refusal.FORGED] += 90
    links.refused.counts[Refusal.COPY] += 10_000
    calm.look(0.1)
    assert not calm.is_on
    assert passed(links, said(EARLIER, 1)) == _SENT


def test_it_ends(links: Links, flood: Flood) -> None:
    links.refused.counts[Refusal.FORGED] += 400 // SAMPLE
    flood.look(1.0)
    assert flood.is_on, "it is as much as before, and a part of it is counted"
    links.refused.counts[Refusal.FORGED] += 100 // SAMPLE
    flood.look(1.5)
    assert not flood.is_on
    assert passed(links, said(EARLIER, 1)) == _SENT
