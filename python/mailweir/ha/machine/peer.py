"""What is believed of another node by what it sends: who is it, is it alive, does it hear us. Pure.

No clock of one node is compared with another's, and nothing is kept on disk, so a datagram proves
itself by what it echoes. A node that begins to live chooses a random epoch. Datagrams of a new
epoch count only once they echo a datagram that we have sent just now, with a number higher than any
echoed before: what was recorded earlier can't do that. Within an epoch numbers rise strictly.

Who hears us echoes what is new. A peer whose echoes get old lives but is deaf; its datagrams count
as long as they come about as fast as its own clock says that it sends them, so that they can't be
held back and let out slowly in its name.

Called by `inputs` and `witness`. Times are seconds of a clock that never steps.
"""

from collections import deque

from mailweir.ha.machine.wire import Message, Refusal

# Clocks of machines differ by less (adjtimex(2) allows 500 parts in a million); seconds per second.
_DRIFT = 0.001
# A peer is deaf before it is dead, but two lost datagrams in a row have to be nothing, also where
# `dead` is a few intervals only.
_DEAF = 0.75
# Earlier lives of a peer. Their datagrams would have to echo what is new as well.
_RETIRED = 16
# Lives that wait to be challenged; recorded datagrams can pretend many.
_NEWCOMERS = 16
# More than are sent in the time that an echo may be old.
_SENT = 8192


class Sent:
    """When each of the newest datagrams was sent. One count goes over all that a node sends."""

    def __init__(self) -> None:
        self.seq = 0
        self._times: deque[float] = deque(maxlen=_SENT)

    def next(self, now: float) -> int:
        """The number of a datagram that is sent now."""
        self.seq += 1
        self._times.append(now)
        return self.seq

    def at(self, seq: int) -> float | None:
        """When it was sent; None if never, or so long ago that it doesn't matter when."""
        place = len(self._times) - 1 - (self.seq - seq)
        return self._times[place] if seq <= self.seq and place >= 0 else None


class Peer:
    """One other node."""

    def __init__(self, *, epoch: int, sent: Sent, dead: float, now: float) -> None:
        """`epoch` and `sent` are our own."""
        self._own_epoch = epoch
        self._sent = sent
        self.dead = dead
        self._retired: deque[int] = deque(maxlen=_RETIRED)
        self._seq = 0
        self._link_seq: dict[int, int] = {}
        # The highest of our numbers that it has echoed, and when that was sent.
        self._echoed = 0
        # How far its clock is behind ours, at least; as of when.
        self._offset = (0.0, now)
        # The newest datagram of each life that has to hear from us before it is believed.
        self._newcomers: dict[int, int] = {}
        self._challenged_at = float("-inf")
        self._began_at = now  # to believe the present life
        self.epoch = 0  # none yet
        self.echoed_at = float("-inf")
        self._resumed_at = now  # to be heard, after silence
        self.heard_at = now
        self.lag = 0.0  # how old what was heard last is, at most
        self.link_heard_at: dict[int, float] = {}
        self.message: Message | None = None

    def listen(self, message: Message, link: int, now: float) -> Refusal | None:
        """Take a datagram that is authentic; None where it is news, else why it isn't."""
        if message.epoch != self.epoch:
            proven = self._proves_itself(message, now)
            if message.epoch in self._retired:
                # Two have called themselves so, and the one that was heard last is gone.
                if not (proven and now - self.heard_at > self.dead):
                    return Refusal.RETIRED
                self._retired.remove(message.epoch)
            elif not proven:
                self._note_newcomer(message)
                return Refusal.UNPROVEN
            self._begin(message, now)
        elif message.seq <= self._link_seq.get(link, 0):
            return Refusal.REPLAYED
        self._hear_echo(message, now)
        lag = self._lag(message, now)
        if lag > 3 * self.dead:
            return Refusal.HELD_BACK
        self._link_seq[link] = message.seq
        self.link_heard_at[link] = now
        if message.seq <= self._seq:
            return Refusal.COPY
        self._seq = message.seq
        if now - self.heard_at > self.dead:
            self._resumed_at = now
        self.heard_at = now
        self.lag = lag
        self.message = message
        return None

    def echo(self) -> tuple[int, int]:
        """What hellos to it echo: epoch and number of its newest datagram; zeros for none."""
        return self.epoch, self._seq

    def heard_on(self, link: int) -> tuple[int, int, int, int]:
        """What has to be exceeded by news on a link: the present life and its number there, our own
        life and the number that a new life would have to echo.
        """
        return self.epoch, self._link_seq.get(link, 0), self._own_epoch, self._echoed

    def challenge(self, now: float, *, apart: float) -> tuple[int, int] | None:
        """What has to be echoed now, so that a new life can prove itself; once in `apart`.

        Each life in its turn: whoever floods us with datagrams of lives that are over can't keep
        the one that is real from being asked.
        """
        if not self._newcomers or now - self._challenged_at < apart:
            return None
        self._challenged_at = now
        epoch = next(iter(self._newcomers))
        return epoch, self._newcomers.pop(epoch)

    def is_deaf(self) -> bool:
        """Whether it was heard last, but hadn't heard us for a while by then."""
        since = max(self.echoed_at, self._resumed_at)
        return self.epoch != 0 and self.heard_at - since > self.dead * _DEAF

    def hears_us(self, now: float) -> bool:
        """Whether it has said a moment ago that it does."""
        return now - self.echoed_at <= self.dead * _DEAF

    def outlives(self, message: Message) -> bool:
        """Whether the sender of a datagram of a retired life lives on beside the present one: it
        has heard what was sent since. What was recorded, or is late, can't have.
        """
        if message.echo_epoch != self._own_epoch:
            return False
        sent_at = self._sent.at(message.echo_seq)
        return sent_at is not None and sent_at > self._began_at

    def _note_newcomer(self, message: Message) -> None:
        if message.epoch not in self._newcomers and len(self._newcomers) >= _NEWCOMERS:
            return
        self._newcomers[message.epoch] = message.seq

    def _proves_itself(self, message: Message, now: float) -> bool:
        """Whether it has heard what we have sent just now, and nobody has said so before."""
        if message.echo_epoch != self._own_epoch or message.echo_seq <= self._echoed:
            return False
        sent_at = self._sent.at(message.echo_seq)
        return sent_at is not None and now - sent_at <= self.dead

    def _begin(self, message: Message, now: float) -> None:
        self._began_at = now
        if self.epoch:
            self._retired.append(self.epoch)
        self.epoch = message.epoch
        self._seq = 0
        self._link_seq.clear()
        self._newcomers.pop(message.epoch, None)

    def _hear_echo(self, message: Message, now: float) -> None:
        """Note what is new in it: that the peer hears us, and how its clock goes.

        It was sent after what it echoes was, so it is on its way for as long as that at most.
        """
        if message.echo_epoch != self._own_epoch or message.echo_seq <= self._echoed:
            return
        sent_at = self._sent.at(message.echo_seq)
        if sent_at is None:
            return
        self._echoed = message.echo_seq
        self.echoed_at = sent_at
        if now - sent_at <= self.dead:
            self._offset = (sent_at - message.clock / 1e6, now)

    def _lag(self, message: Message, now: float) -> float:
        """How long it was on its way, at most."""
        offset, as_of = self._offset
        return now - message.clock / 1e6 - offset - _DRIFT * (now - as_of)
