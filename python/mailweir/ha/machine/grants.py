"""The witness of a strict pair: which node may be active, and what it is answered. Pure.

It grants leave to one node at a time, as long as that node asks. A node counts its leave from when
it sent the hello that is answered, for one lease; the witness keeps its word from when it heard
that, for `bond` of the lease, unless the node says before that it needs leave no more. A witness
that begins to live doesn't know what an earlier life has granted, so it waits as long first.

Called by `witness`. Times are seconds of a clock that never steps.
"""

from mailweir.ha.machine.facts import bond
from mailweir.ha.machine.known import holds, wants
from mailweir.ha.machine.peer import Peer, Sent
from mailweir.ha.machine.wire import WITNESS, Flag, Kind, Message, Refusal, State, Trouble

# A challenge to a new life of a node goes out at most so often.
_CHALLENGED_EVERY = 0.05


class Grants:
    """Who has leave."""

    def __init__(self, *, lease: float, now: float) -> None:
        self._lease = lease
        self._until = now + bond(lease)
        self.holder: int | None = None  # a node's number

    def hear(self, told: Message, now: float) -> bool:
        """Whether the sender of this hello or release has leave as of `now`."""
        node = told.sender
        if node == self.holder and not wants(told) and not holds(told):
            self.holder, self._until = None, now
        if not wants(told) or (node != self.holder and now < self._until):
            return False
        self.holder = node
        self._until = max(self._until, now + bond(max(self._lease, told.lease / 1000)))
        return True


class WitnessMachine:
    """The third node: hears the two, and answers each datagram that is news."""

    def __init__(
        self, *, cluster: int, newest_key: int, epoch: int, lease: float, dead: float, now: float
    ) -> None:
        """`epoch` is random for each life of the process."""
        self._cluster = cluster
        self.newest_key = newest_key
        self._epoch = epoch
        self._sent = Sent()
        self.grants = Grants(lease=lease, now=now)
        self.nodes = {
            number: Peer(epoch=epoch, sent=self._sent, dead=dead, now=now) for number in (1, 2)
        }

    def heard(
        self, message: Message, link: int, now: float
    ) -> tuple[Refusal | None, Message | None]:
        """An authentic datagram: why it isn't listened to, if so, and what is answered, if at all.

        The answer goes where the datagram came from.
        """
        node = self.nodes.get(message.sender)
        if node is None:
            return Refusal.FOREIGN, None
        refusal = node.listen(message, link, now)
        if refusal is Refusal.UNPROVEN:
            echo = node.challenge(now, apart=_CHALLENGED_EVERY)
            return refusal, self._answer(message, echo, Flag(0), now) if echo else None
        if refusal is not None:
            return refusal, None
        granted = Flag.GRANTED if self.grants.hear(message, now) else Flag(0)
        return None, self._answer(message, node.echo(), granted, now)

    def _answer(self, told: Message, echo: tuple[int, int], granted: Flag, now: float) -> Message:
        """Times are the asker's, whatever ours are."""
        return Message(
            kind=Kind.HELLO,
            state=State.WITNESS,
            flags=Flag.DATAPLANE_OK | Flag.CARRIER_OK | granted,
            priority=0,
            configured=0,
            cluster=self._cluster,
            sender=WITNESS,
            receiver=told.sender,
            newest_key=self.newest_key,
            epoch=self._epoch,
            seq=self._sent.next(now),
            echo_epoch=echo[0],
            echo_seq=echo[1],
            term=told.term,
            interval=told.interval,
            dead=told.dead,
            lease=told.lease,
            hold=0,
            up=0,
            servers=0,
            sessions=0,
            pair_digest=told.pair_digest,
            config_digest=bytes(8),
            generation=0,
            clock=int(now * 1e6),
            trouble=Trouble(0),
            parts=0,
            part=bytes(3),
            part_digest=bytes(3),
        )
