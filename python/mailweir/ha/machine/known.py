"""What a node knows of itself, its peer and the witness, and what it says of that. Pure.

Written by `fsm` alone, read by `judging` and, for operators, by `telling`.
"""

from mailweir.ha.machine.facts import Health, Settings, bond
from mailweir.ha.machine.peer import Peer, Sent
from mailweir.ha.machine.wire import WITNESS, Flag, Kind, Message, State

_NEVER = float("-inf")


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
        self.health = Health()
        self.carrier_lost = "the addresses' devices weren't looked at yet"
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
        """As configured, less what is wrong."""
        return max(1, self.settings.priority - self.health.penalty)

    def flags(self, now: float) -> Flag:
        """What hellos say of this node."""
        told = {
            Flag.DATAPLANE_OK: self.health.ok,
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
    ) -> Message:
        """What is said next; `echo` instead of what was heard last."""
        s, health = self.settings, self.health
        flags = self.flags(now)
        if leave:
            self.promise()
            flags |= Flag.GRANTED
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
            up=min(health.up, 0xFFFF),
            servers=min(health.servers, 0xFFFF),
            sessions=min(health.sessions, 0xFFFF_FFFF),
            pair_digest=s.pair_digest,
            config_digest=health.config_digest,
            generation=health.generation,
            clock=int(now * 1e6),
        )
