"""What a datagram of the peer or the witness changes, once `peer` says that it is news. Pure.

Called by `inputs`.
"""

from mailweir.ha.machine import judging
from mailweir.ha.machine.facts import Announce
from mailweir.ha.machine.known import Known, holds, lets_go, since_when, wants
from mailweir.ha.machine.states import States
from mailweir.ha.machine.wire import Kind, Message, State, Trouble

_NEVER = float("-inf")


def hear_witness(known: Known, message: Message) -> None:
    """What the witness says."""
    if judging.is_leave(known, message, known.witness):
        lease = min(message.lease / 1000, known.settings.lease)
        known.granted_until = max(known.granted_until, known.witness.echoed_at + lease)


def hear_peer(states: States, message: Message, before: Message | None, now: float) -> None:
    """What the peer says; `before` is what it said last."""
    known = states.known
    known.peer_term = max(known.peer_term, message.term)
    known.parts.hear(message)
    if message.kind is Kind.WORDS:
        known.words.hear(message.words, now)
    if message.kind is Kind.RELEASE and Trouble.FORCED in message.trouble:
        known.forced = True
    if judging.is_leave(known, message, known.peer):
        until = known.peer.echoed_at + known.settings.lease
        known.voted_until = max(known.voted_until, until)
    if wants(message) or holds(message):
        states.released_at = _NEVER
    else:
        # It can't use our word any more: it would have to ask anew.
        known.promised_until = _NEVER
        if lets_go(message, before):
            states.released_at = now
            # Who read it late doesn't know what has happened since.
            states.release_is_old = known.peer.lag > known.settings.dead / 4
    if message.state is State.CANDIDATE and judging.gives_leave(known, now):
        states.next_hello = now
    match message.kind:
        case Kind.CLAIM if known.state is State.ACTIVE:
            force = Trouble.FORCED in message.trouble
            if refusal := judging.why_not_switch(known, now, force=force):
                states.asks.say("warning", "the peer's claim is refused", refusal)
            else:
                why = f"{known.settings.peer} asked for it"
                states.let_go(State.BACKUP, why, now, force=force)
        case Kind.HELLO if message.state is known.state is State.ACTIVE:
            _settle_conflict(states, message, now)


def _settle_conflict(states: States, message: Message, now: float) -> None:
    """Both are active: both come to the same end of it."""
    known = states.known
    known.conflict_since = since_when(known.conflict_since, True, now)
    if why := judging.why_peer_wins(known, message, now):
        states.let_go(State.BACKUP, f"both were active, and {why}", now)
    else:
        states.hello(now)
        states.asks.put(Announce())
