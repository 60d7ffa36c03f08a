"""Who is believed: no datagram twice, none of an earlier life, none that was held back for long."""

import random
from typing import Any

import pytest

from mailweir.ha.machine.peer import Peer, Sent
from mailweir.ha.machine.wire import Message, Refusal
from unit.ha.pairs import EPOCHS, message

DEAD = 2.0


class Ear:
    """Node 1, who listens to node 2."""

    def __init__(self, epoch: int = EPOCHS[1]) -> None:
        self.now = 100.0
        self.epoch = epoch
        self.sent = Sent()
        self.peer = Peer(epoch=epoch, sent=self.sent, dead=DEAD, now=self.now)
        self.sent.next(self.now)

    def says(self, seq: int, *, echo: int | None = None, **changed: Any) -> Message:
        """What the peer sends now; it has heard our newest."""
        fields: dict[str, Any] = {
            "echo_epoch": self.epoch,
            "echo_seq": self.sent.seq if echo is None else echo,
            "clock": int(self.now * 1e6),
            **changed,
        }
        return message(seq=seq, **fields)

    def hear(self, told: Message, link: int = 1) -> Refusal | None:
        return self.peer.listen(told, link, self.now)

    def go_on(self, seconds: float = 0.2) -> None:
        self.now += seconds
        self.sent.next(self.now)


@pytest.fixture
def ear() -> Ear:
    """It has heard the peer's number 1."""
    ear = Ear()
    assert ear.hear(ear.says(1)) is None
    return ear


def test_a_new_life_has_to_echo_what_was_sent_just_now() -> None:
    ear = Ear()
    assert ear.hear(ear.says(1, echo_epoch=0, echo=0)) is Refusal.UNPROVEN
    assert ear.hear(ear.says(2, echo_epoch=77)) is Refusal.UNPROVEN
    assert ear.hear(ear.says(3, echo=99)) is Refusal.UNPROVEN
    assert ear.peer.message is None
    assert ear.peer.challenge(ear.now, apart=0.05) == (EPOCHS[2], 3)
    assert ear.hear(ear.says(4)) is None
    assert (ear.peer.epoch, ear.peer.echo()) == (EPOCHS[2], (EPOCHS[2], 4))


def test_an_echo_of_long_ago_proves_nothing() -> None:
    ear = Ear()
    old = ear.sent.seq
    ear.go_on(DEAD + 0.1)
    assert ear.hear(ear.says(1, echo=old)) is Refusal.UNPROVEN
    assert ear.hear(ear.says(2)) is None


def test_an_echo_proves_one_life() -> None:
    ear = Ear()
    assert ear.hear(ear.says(1)) is None
    assert ear.hear(ear.says(1, epoch=0xDDDD)) is Refusal.UNPROVEN
    ear.go_on()
    assert ear.hear(ear.says(1, epoch=0xDDDD)) is None


def test_unproven_datagrams_change_nothing(ear: Ear) -> None:
    heard_at, told = ear.peer.heard_at, ear.peer.message
    ear.now += 1
    assert ear.hear(ear.says(1, epoch=0xDDDD, echo=0)) is Refusal.UNPROVEN
    assert (ear.peer.heard_at, ear.peer.message) == (heard_at, told)


def test_numbers_rise(ear: Ear) -> None:
    assert ear.hear(ear.says(1)) is Refusal.REPLAYED
    assert ear.hear(ear.says(5)) is None
    assert ear.hear(ear.says(4)) is Refusal.REPLAYED
    assert ear.hear(ear.says(6)) is None


def test_a_copy_over_another_link_is_no_news_but_that_link_works(ear: Ear) -> None:
    ear.go_on()
    told = ear.says(2)
    assert ear.hear(told, link=1) is None
    ear.now += 0.3
    assert ear.hear(told, link=2) is Refusal.COPY
    assert ear.hear(told, link=2) is Refusal.REPLAYED
    assert ear.peer.link_heard_at == {1: ear.now - 0.3, 2: ear.now}
    assert ear.peer.heard_at == ear.now - 0.3


def test_a_slower_link_is_listened_to_as_well(ear: Ear) -> None:
    for seq in range(2, 20):
        ear.go_on()
        assert ear.hear(ear.says(seq), link=1) is None
        assert ear.hear(ear.says(seq - 1), link=2) is Refusal.COPY


def recorded(ear: Ear, count: int, *, epoch: int = EPOCHS[2]) -> list[Message]:
    """A stretch of a life, heard."""
    told = []
    for seq in range(1, count + 1):
        ear.go_on()
        told.append(ear.says(seq, epoch=epoch))
        assert ear.hear(told[-1]) is None
    return told


def beliefs(ear: Ear) -> tuple[object, ...]:
    peer = ear.peer
    return peer.epoch, peer.echo(), peer.heard_at, peer.echoed_at, peer.message


@pytest.mark.parametrize("link", [1, 2])
@pytest.mark.parametrize("order", ["same", "reversed", "shuffled"])
def test_replays_of_the_present_life(order: str, link: int) -> None:
    ear = Ear()
    told = recorded(ear, 1000)
    before = beliefs(ear)
    ear.now += 1
    for one in arranged(told, order):
        assert ear.hear(one, link) in (Refusal.REPLAYED, Refusal.COPY, Refusal.HELD_BACK)
    assert beliefs(ear) == before


@pytest.mark.parametrize("order", ["same", "reversed", "shuffled"])
def test_replays_of_the_life_before(order: str) -> None:
    ear = Ear()
    told = recorded(ear, 1000)
    recorded(ear, 10, epoch=0xDDDD)
    before = beliefs(ear)
    for one in arranged(told, order):
        assert ear.hear(one) is Refusal.RETIRED
    assert beliefs(ear) == before


@pytest.mark.parametrize("order", ["same", "reversed", "shuffled"])
def test_replays_after_both_have_begun_anew(order: str) -> None:
    """The new life of ours knows of no life of the peer; the new one may be proven yet or not."""
    told = recorded(Ear(epoch=0x9999), 10_000)
    ear = Ear()
    for one in arranged(told[:5000], order):
        assert ear.hear(one) is Refusal.UNPROVEN
    recorded(ear, 10, epoch=0xDDDD)
    before = beliefs(ear)
    for one in arranged(told, order):
        assert ear.hear(one) is Refusal.UNPROVEN
    assert beliefs(ear) == before


def arranged(told: list[Message], order: str) -> list[Message]:
    if order == "reversed":
        return told[::-1]
    return random.Random(1).sample(told, len(told)) if order == "shuffled" else told  # noqa: S311


def test_a_life_among_many_recorded_ones_is_challenged_soon() -> None:
    ear = Ear()
    real = 0xDDDD
    for turn in range(40):
        for old in range(8):
            ear.hear(ear.says(1000 - turn, epoch=0x100 + old, echo_epoch=0x9999))
        ear.hear(ear.says(turn + 1, epoch=real, echo_epoch=0, echo=0))
        ear.now += 0.06
        found = ear.peer.challenge(ear.now, apart=0.05)
        assert found is not None
        if found[0] == real:
            break
    assert turn < 10


def test_challenges_are_apart() -> None:
    ear = Ear()
    for place in range(100):
        ear.hear(ear.says(1, epoch=0x100 + place, echo=0))
    assert ear.peer.challenge(ear.now, apart=0.05) is not None
    assert ear.peer.challenge(ear.now + 0.04, apart=0.05) is None
    assert ear.peer.challenge(ear.now + 0.06, apart=0.05) is not None


def test_a_deaf_peer_lives_as_long_as_it_sends(ear: Ear) -> None:
    for seq in range(2, 3000):
        ear.go_on()
        assert ear.hear(ear.says(seq, echo=1)) is None
    assert ear.peer.is_deaf()
    assert ear.peer.heard_at == ear.now


def test_a_clock_may_go_a_little_wrong(ear: Ear) -> None:
    for seq in range(2, 3000):
        ear.go_on()
        slow = 100 + (ear.now - 100) * 0.9995
        assert ear.hear(ear.says(seq, echo=1, clock=int(slow * 1e6))) is None


def test_datagrams_let_out_slowly_give_no_life(ear: Ear) -> None:
    """Who holds back a deaf peer's last minute can't stretch it."""
    told = []
    for seq in range(2, 302):
        ear.go_on()
        told.append(ear.says(seq, echo=1))
    ear.now = died_at = 102.0
    heard = 0
    for one in told:
        ear.now += 1.0
        heard += ear.hear(one) is None
    assert ear.peer.heard_at <= died_at + 4 * DEAD
    assert heard < 10


def test_held_back_echoes_give_no_life_either() -> None:
    """Each echoes a little more than the one before, and all of them late."""
    ear = Ear()
    told = []
    for seq in range(1, 301):
        ear.go_on()
        told.append(ear.says(seq))
        if seq <= 100:
            assert ear.hear(told[-1]) is None
    held_since = 100 + 100 * 0.2
    ear.now = held_since
    for one in told[100:]:
        ear.now += 1.0
        ear.hear(one)
    assert ear.peer.heard_at <= held_since + 4 * DEAD


def test_a_suspended_peer_goes_on(ear: Ear) -> None:
    """Its clock counts on, and it has heard nothing meanwhile."""
    last = ear.sent.seq
    for _ in range(300):
        ear.go_on()
    assert ear.hear(ear.says(2, echo=last)) is None
    # It has had no time to hear us; but nothing is to be left to it yet.
    assert (ear.peer.is_deaf(), ear.peer.hears_us(ear.now)) == (False, False)
    ear.go_on()
    assert ear.hear(ear.says(3)) is None
    assert (ear.peer.is_deaf(), ear.peer.hears_us(ear.now)) == (False, True)


def test_a_peer_that_dies_was_not_deaf_before(ear: Ear) -> None:
    for seq in range(2, 20):
        ear.go_on()
        assert ear.hear(ear.says(seq)) is None
    for _ in range(100):
        ear.go_on()
        assert not ear.peer.is_deaf()
    assert not ear.peer.hears_us(ear.now)


def test_what_has_waited_in_a_queue_is_no_sign_of_life(ear: Ear) -> None:
    """We stood still for ten seconds; the peer died nine seconds ago."""
    told = [ear.says(seq, clock=int((ear.now + 0.2 * seq) * 1e6)) for seq in range(2, 7)]
    ear.now += 10
    assert {ear.hear(one) for one in told} == {Refusal.HELD_BACK}
    assert ear.peer.heard_at == ear.now - 10


def test_a_copy_can_be_the_first_to_echo() -> None:
    ear = Ear()
    ear.hear(ear.says(1))
    ear.go_on()
    assert ear.hear(ear.says(3, echo_epoch=0x7777, echo=9), link=1) is None
    assert ear.hear(ear.says(2), link=2) is Refusal.COPY
    assert ear.peer.echoed_at == ear.now


def test_a_twin_is_told_from_a_recording() -> None:
    ear = Ear()
    old = recorded(ear, 5)
    recorded(ear, 1, epoch=0xDDDD)
    assert not ear.peer.outlives(old[-1])
    ear.go_on()
    assert ear.peer.outlives(ear.says(6))
