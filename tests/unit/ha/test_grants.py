"""The witness: leave for one node at a time, and its word kept for as long as it may count."""

from typing import Any

import pytest

from mailweir.ha.machine.facts import bond
from mailweir.ha.machine.grants import Grants, WitnessMachine
from mailweir.ha.machine.wire import WITNESS, Flag, Kind, Message, Refusal, State
from unit.ha.pairs import EPOCHS, HEALTHY, message

LEASE = 3.0
BOND = bond(LEASE)


def asks(sender: int, state: State = State.CANDIDATE, **changed: Any) -> Message:
    return message(sender, WITNESS, state=state, **changed)


@pytest.fixture
def grants() -> Grants:
    """It has been there for a while."""
    return Grants(lease=LEASE, now=100 - BOND)


def test_leave_is_for_one_node(grants: Grants) -> None:
    assert grants.hear(asks(1), 100)
    assert not grants.hear(asks(2), 100)
    assert grants.hear(asks(1, State.ACTIVE), 105)
    assert not grants.hear(asks(2), 105 + BOND - 0.1)
    assert grants.hear(asks(2), 105 + BOND)
    assert not grants.hear(asks(1), 105 + BOND)


def test_a_new_witness_waits_until_an_earlier_word_is_over() -> None:
    grants = Grants(lease=LEASE, now=100)
    assert not grants.hear(asks(1), 100 + BOND - 0.1)
    assert grants.hear(asks(1), 100 + BOND)


def test_the_longer_lease_counts(grants: Grants) -> None:
    assert grants.hear(asks(1, lease=10_000), 100)
    assert not grants.hear(asks(2), 100 + bond(10) - 0.1)
    assert grants.hear(asks(2), 100 + bond(10))


@pytest.mark.parametrize("state", [State.BACKUP, State.FAULT, State.MAINT, State.INIT])
@pytest.mark.parametrize("kind", [Kind.HELLO, Kind.RELEASE])
def test_who_needs_it_no_more_sets_it_free(grants: Grants, state: State, kind: Kind) -> None:
    assert grants.hear(asks(1), 100)
    assert not grants.hear(asks(1, state, kind=kind), 100.1)
    assert grants.hear(asks(2), 100.2)


def test_who_has_the_addresses_still_does_not(grants: Grants) -> None:
    assert grants.hear(asks(1), 100)
    assert not grants.hear(asks(1, State.RELEASING, flags=HEALTHY | Flag.HOLDS), 100.1)
    assert not grants.hear(asks(2), 100.2)


def test_others_set_nothing_free(grants: Grants) -> None:
    assert grants.hear(asks(1), 100)
    assert not grants.hear(asks(2, State.BACKUP, kind=Kind.RELEASE), 100.1)
    assert not grants.hear(asks(2), 100.2)


class Asked:
    """A witness, and what node 1 sends it."""

    def __init__(self) -> None:
        self.witness = WitnessMachine(
            cluster=7, newest_key=1, epoch=EPOCHS[WITNESS], lease=LEASE, dead=2.0, now=100 - BOND
        )
        self.seq = 0
        self.echo = (0, 0)

    def ask(self, now: float, **changed: Any) -> tuple[Refusal | None, Any]:
        self.seq += 1
        fields: dict[str, Any] = {
            "seq": self.seq,
            "echo_epoch": self.echo[0],
            "echo_seq": self.echo[1],
            "clock": int(now * 1e6),
            **changed,
        }
        refusal, answer = self.witness.heard(asks(1, **fields), 0, now)
        if answer is not None:
            self.echo = (answer.epoch, answer.seq)
        return refusal, answer


def test_a_node_proves_itself_and_is_answered() -> None:
    asked = Asked()
    refusal, answer = asked.ask(100)
    assert refusal is Refusal.UNPROVEN
    assert (answer.echo_epoch, answer.echo_seq) == (EPOCHS[1], 1)
    assert Flag.GRANTED not in answer.flags
    refusal, answer = asked.ask(100.2)
    assert refusal is None
    assert Flag.GRANTED in answer.flags
    assert (answer.sender, answer.receiver, answer.state) == (WITNESS, 1, State.WITNESS)
    assert (answer.echo_epoch, answer.echo_seq, answer.lease) == (EPOCHS[1], 2, 3000)


def test_what_is_no_news_is_not_answered() -> None:
    asked = Asked()
    asked.ask(100)
    asked.ask(100.2)
    refusal, answer = asked.ask(100.3, seq=2)
    assert (refusal, answer) == (Refusal.REPLAYED, None)


def test_a_recorded_release_sets_nothing_free() -> None:
    asked = Asked()
    asked.ask(100)
    asked.ask(100.2)
    asked.ask(100.4, kind=Kind.RELEASE, state=State.BACKUP)
    _, answer = asked.ask(100.6)
    assert Flag.GRANTED in answer.flags
    asked.ask(100.8, seq=3, kind=Kind.RELEASE, state=State.BACKUP)
    assert asked.witness.grants.holder == 1
