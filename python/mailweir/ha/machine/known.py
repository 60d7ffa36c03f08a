"""What a node knows of itself, its peer and the witness, and what it says of that. Pure.

Written by `inputs`, `heard` and `states`, read by `judging` and, for operators, by `telling`.
"""

from collections.abc import Mapping

from mailweir.ha.machine.facts import BalancerHealth, Facts, Settings, bond
from mailweir.ha.machine.operator_words import Words
from mailweir.ha.machine.parts import Parts
from mailweir.ha.machine.peer import Peer, Sent
from mailweir.ha.machine.wire import WITNESS, Flag, Kind, Message, State, Trouble

_NEVER = float("-inf")
# What is taken off the priority of a node that refuses new sessions; as without a server.
_PAUSED = 50


def wants(told: Message) -> bool:
    """Whether a node needs leave to be active (strict mode)."""
    return told.state in (State.CANDIDATE, State.ACTIVE)


def holds(told: Message) -> bool:
    """Whether a node has the addresses, or may have them still."""
    return told.state is State.ACTIVE or Flag.HOLDS in told.flags


def lets_go(message: Message, before: Message | None) -> bool:
    """Whether the sender had the addresses and has them no more. A RELEASE is sent several times:
    it counts once, since the addresses may come and go before the last one is here.
    """
    if before is None or before.epoch != message.epoch:
        return message.kind is Kind.RELEASE
    return holds(before) or (message.kind is Kind.RELEASE and before.kind is not Kind.RELEASE)


def since_when(before: float | None, is_so: bool, now: float) -> float | None:
    """Since when something is so that was so since `before`."""
    return (now if before is None else before) if is_so else None


def _figures(health: BalancerHealth) -> dict[str, int]:
    """As large as a datagram can say."""
    return {
        "up": min(health.up, 0xFFFF),
        "servers": min(health.servers, 0xFFFF),
        "sessions": min(health.sessions, 0xFFFF_FFFF),
    }


class Known:
    """One node's view. Times are seconds, as everywhere in the machine."""

    def __init__(self, settings: Settings, *, epoch: int, now: float) -> None:
        self.settings = settings
        self.epoch = epoch
        self.sent = Sent()
        self.peer = Peer(epoch=epoch, sent=self.sent, dead=settings.dead, now=now)
        self.witness = Peer(epoch=epoch, sent=self.sent, dead=settings.dead, now=now)
        self.state = State.INIT
        self.since = now
        self.why = "it has just started"
        self.term = 0  # of the newest takeover of this node; the later one has the higher
        self.peer_term = 0
        self.takeovers = 0
        self.health = BalancerHealth()
        self.carrier_lost = "the addresses' devices weren't looked at yet"
        self.absent_links: Mapping[int, str] = {}  # those that can't be used, and why
        self.double = ""  # another machine that has this node's own address, in words
        self.gateway_answers: bool | None = None
        self.gateway_lost_at: float | None = None
        self.holding = False  # the addresses are here, and their lease is to be renewed
        self.alarms: dict[str, str] = {}
        self.stalled_until = now
        self.waited_from = now  # silence before this counts for nothing
        self.vacant_since: float | None = None  # the peer is heard, and neither is active
        self.outranked_since: float | None = None  # by a peer that stands ready
        self.yielded_until = now  # the peer goes first until then
        self.conflict_since: float | None = None  # both are active
        self.unready_since: float | None = None  # this node is active, and the peer can't take over
        # An operator wants the addresses there however the balancer is: here, or at the peer.
        self.forced = self.forces = False
        self.lost_sessions = 0  # that were here when the addresses went
        self.parts = Parts()
        self.words = Words()
        # Strict mode. Leave counts if it answers what was sent since this node began to ask.
        self.asked_since = now
        self.granted_until = _NEVER  # by the witness
        self.voted_until = _NEVER  # by the peer
        # The peer may be active until then by our word, or by that of an earlier life of ours.
        self.promised_until = now + bond(settings.lease)

    def configure(self, settings: Settings) -> None:
        """Go by other settings from here on."""
        self.settings = settings
        self.peer.dead = self.witness.dead = settings.dead
        if not settings.gateways:
            # Nobody asks any more: what was found out would stay for ever.
            self.gateway_answers = self.gateway_lost_at = None

    def learn(self, facts: Facts, now: float) -> bool:
        """Take in what is another one; whether the carrier came back by it."""
        back = False
        if facts.health is not None:
            self.health = facts.health
            self.words.learn(facts.health.words)
            if self.health.ok and not self.health.trouble:
                self.forced = False
        if facts.carrier_lost is not None:
            back = bool(self.carrier_lost) and not facts.carrier_lost
            self.carrier_lost = facts.carrier_lost
        if facts.double is not None:
            self.double = facts.double
        if facts.absent_links is not None:
            if self.has_no_link():
                self.waited_from = now  # nothing could be heard until now
            self.absent_links = facts.absent_links
        if facts.gateway_answers is not None:
            self.gateway_answers = facts.gateway_answers
            self.gateway_lost_at = since_when(self.gateway_lost_at, not facts.gateway_answers, now)
        return back

    def is_silent(self, now: float) -> bool:
        """Whether the peer counts as dead."""
        return now >= self.silent_at

    def heard_since(self) -> bool:
        """Whether the peer was heard since this state began."""
        return self.peer.heard_at > self.since

    @property
    def silent_at(self) -> float:
        """When it will, if it isn't heard until then."""
        return max(self.peer.heard_at, self.waited_from) + self.settings.silence

    @property
    def quorum_until(self) -> float:
        """How long two of three are for this node (strict mode)."""
        return max(self.granted_until, self.voted_until)

    @property
    def vacancy(self) -> float:
        """How long neither may be active before the better one goes."""
        return self.settings.skew + 2 * self.settings.interval

    def heard_on(self, link: int) -> tuple[int, int, int, int]:
        """Of the one who is at the other end of a link, as `Peer` says it; 0 is the witness's."""
        return (self.peer if link else self.witness).heard_on(link)

    def peer_holds(self) -> bool:
        """Whether the peer has the addresses, or had when it was heard last."""
        told = self.peer.message
        return told is not None and holds(told)

    def is_vacant(self, now: float) -> bool:
        """Whether the peer is heard, and neither has the addresses."""
        if self.peer.message is None or self.is_silent(now):
            return False
        return not (self.peer_holds() or self.state in (State.ACTIVE, State.RELEASING))

    def ask(self, now: float) -> None:
        """From here on this node wants leave; what it had of that doesn't count."""
        self.asked_since = now
        self.granted_until = self.voted_until = _NEVER

    def promise(self) -> None:
        """The peer gets our word with the next datagram, as an echo of the one heard last."""
        until = self.peer.heard_at + bond(self.settings.lease)
        self.promised_until = max(self.promised_until, until)

    def sees_gateway(self) -> bool:
        """Whether one answers, or none is configured."""
        return not self.settings.gateways or self.gateway_answers is True

    def sees_witness(self, now: float) -> bool:
        """Whether the witness, where there is one, was heard a moment ago."""
        return self.settings.witness and now - self.witness.heard_at < self.settings.dead

    def priority(self) -> int:
        """As configured, less what is wrong. A pause doesn't drive the addresses away: it would
        cut the sessions that it means to spare.
        """
        paused = _PAUSED if self.health.paused and not self.holding else 0
        return max(1, self.settings.priority - self.health.penalty - paused)

    def serves(self) -> bool:
        """Whether the balancer can serve; one that is away for a moment only where it is to be
        waited for.
        """
        return self.health.ok and (self.holding or not self.health.away)

    def has_no_link(self) -> str:
        """Why nothing can be heard of the peer, if none of the links can be used."""
        if len(self.absent_links) < len(self.settings.links):
            return ""
        reasons = "; ".join(dict.fromkeys(self.absent_links.values()))
        return f"none of its links can be used: {reasons}"

    def flags(self, now: float) -> Flag:
        """What hellos say of this node."""
        told = {
            Flag.DATAPLANE_OK: self.serves(),
            Flag.GATEWAY_OK: self.sees_gateway(),
            Flag.WITNESS_OK: self.sees_witness(now),
            Flag.CARRIER_OK: not (self.carrier_lost or self.double),
            Flag.HOLDS: self.holding or self.state is State.RELEASING,
            Flag.DEAF: self.is_silent(now),
            Flag.STALLED: now < self.stalled_until,
        }
        flags = Flag(0)
        for flag, is_so in told.items():
            if is_so:
                flags |= flag
        return flags

    def message(
        self,
        kind: Kind,
        now: float,
        *,
        to_witness: bool = False,
        echo: tuple[int, int] | None = None,
        leave: bool = False,
        words: bytes = b"",
    ) -> Message:
        """What is said next; `echo` instead of what was heard last."""
        s, health = self.settings, self.health
        flags = self.flags(now)
        if leave:
            self.promise()
            flags |= Flag.GRANTED
        forces = self.forces and kind is not Kind.HELLO
        parts, part, part_digest = self.parts.next(s.parts, health.parts)
        echo_epoch, echo_seq = echo or (self.witness if to_witness else self.peer).echo()
        return Message(
            kind=kind,
            state=self.state,
            flags=flags,
            priority=self.priority(),
            configured=s.priority,
            cluster=s.cluster,
            sender=s.number,
            receiver=WITNESS if to_witness else 3 - s.number,
            newest_key=s.newest_key,
            epoch=self.epoch,
            seq=self.sent.next(now),
            echo_epoch=echo_epoch,
            echo_seq=echo_seq,
            term=self.term,
            interval=round(s.interval * 1000),
            dead=round(s.dead * 1000),
            lease=round(s.lease * 1000),
            hold=round(s.fault_hold * 1000),
            **_figures(health),
            pair_digest=s.pair_digest,
            config_digest=health.config_digest,
            generation=health.generation,
            clock=int(now * 1e6),
            trouble=health.trouble | (Trouble.FORCED if forces else Trouble(0)),
            parts=parts,
            part=part,
            part_digest=part_digest,
            words=words,
        )
