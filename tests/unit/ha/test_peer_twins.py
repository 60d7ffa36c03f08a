"""Two machines that take themselves for the peer, one after the other: which one is listened to."""

from dataclasses import replace

from mailweir.ha.machine.peer import Peer, Sent
from mailweir.ha.machine.wire import Flag, Kind, Message, Refusal, State, Trouble

_OWN, _FIRST, _SECOND = 7, 11, 12  # epochs
_DEAD = 2.0
_HELLO = Message(
    kind=Kind.HELLO,
    state=State.BACKUP,
    flags=Flag(0),
    priority=100,
    configured=100,
    cluster=1,
    sender=2,
    receiver=1,
    newest_key=1,
    epoch=_FIRST,
    seq=1,
    echo_epoch=_OWN,
    echo_seq=0,
    term=0,
    interval=200,
    dead=2000,
    lease=3000,
    hold=0,
    up=0,
    servers=0,
    sessions=0,
    pair_digest=bytes(8),
    config_digest=bytes(8),
    generation=0,
    clock=0,
    trouble=Trouble(0),
    parts=0,
    part=bytes(3),
    part_digest=bytes(3),
)


class _Listening:
    """A node that hears both."""

    def __init__(self) -> None:
        self.sent = Sent()
        self.peer = Peer(epoch=_OWN, sent=self.sent, dead=_DEAD, now=0.0)

    def hears(self, epoch: int, seq: int, at: float, *, echo: int = 0) -> Refusal | None:
        """A hello that echoes what was sent just before, or the one numbered so."""
        number = echo or self.sent.next(at)
        hello = replace(_HELLO, epoch=epoch, seq=seq, echo_seq=number, clock=int(at * 1e6))
        return self.peer.listen(hello, 1, at)


def test_one_that_is_heard_keeps_the_other_out() -> None:
    node = _Listening()
    assert node.hears(_FIRST, 1, 1.0) is None
    assert node.hears(_SECOND, 1, 1.2) is None
    assert node.hears(_FIRST, 2, 1.4) is Refusal.RETIRED
    assert node.hears(_SECOND, 2, 3.0) is None
    assert node.hears(_FIRST, 3, 4.9) is Refusal.RETIRED


def test_once_it_is_gone_the_other_is_heard_again() -> None:
    node = _Listening()
    assert node.hears(_FIRST, 1, 1.0) is None
    assert node.hears(_SECOND, 1, 1.2) is None
    assert node.hears(_FIRST, 2, 3.3) is None
    assert node.peer.epoch == _FIRST
    assert node.hears(_SECOND, 2, 3.5) is Refusal.RETIRED


def test_what_was_recorded_of_the_other_stays_refused() -> None:
    """It echoes what was sent before: older than what has been echoed, or than `dead`."""
    node = _Listening()
    early = node.sent.next(0.9)
    assert node.hears(_FIRST, 1, 1.0) is None
    assert node.hears(_SECOND, 1, 1.2) is None
    assert node.hears(_FIRST, 2, 3.3, echo=early) is Refusal.RETIRED
    late = node.sent.next(1.3)
    assert node.hears(_FIRST, 3, 3.4, echo=late) is Refusal.RETIRED
