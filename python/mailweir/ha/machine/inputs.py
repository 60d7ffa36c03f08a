"""What comes to a node of the pair: each input is a method, and returns what is to be done. Pure:
facts and time go in, actions come out.

`facts` has the words. What follows from an input is in `heard` (datagrams), `commands` (operators)
and `states` (all the rest). Called by `agent`.
"""

from mailweir.ha.machine import commands, heard
from mailweir.ha.machine.facts import (
    RENEWED_EVERY,
    Action,
    Announce,
    Command,
    Drop,
    Facts,
    Fence,
    Holder,
    Probe,
    Settings,
    Take,
)
from mailweir.ha.machine.known import Known
from mailweir.ha.machine.states import States
from mailweir.ha.machine.wire import WITNESS, Message, Refusal, State

_FENCE_AGAIN = 5.0  # seconds between runs of a fence command that failed
_NEVER = float("-inf")


class Machine:
    """One node of the pair. Every input returns what is to be done, in order."""

    def __init__(self, settings: Settings, *, epoch: int, now: float) -> None:
        """`epoch` is random for each life of the process."""
        self.known = Known(settings, epoch=epoch, now=now)
        self._states = States(self.known, now)
        self._asks, self._alarms = self._states.asks, self._states.alarms
        self._moved_at = now
        self._readded_at = _NEVER

    def tick(self, now: float) -> list[Action]:
        """Time has passed. Called at `deadline` at the latest, after what has come was read."""
        self._move(now)
        self._states.consider(now)
        if now >= self._states.next_hello:
            self._states.hello(now)
        return self._asks.flush()

    def heard(self, message: Message, link: int, now: float) -> tuple[Refusal | None, list[Action]]:
        """An authentic datagram of the peer or the witness; why it isn't listened to, if so."""
        self._move(now)
        of_witness = message.sender == WITNESS
        node = self.known.witness if of_witness else self.known.peer
        before, silent = node.message, not of_witness and self.known.is_silent(now)
        refusal = node.listen(message, link, now)
        if refusal is Refusal.UNPROVEN:
            self._asks.challenge(node, now)
        elif refusal is Refusal.RETIRED and not of_witness and node.outlives(message):
            name = self.known.settings.peer
            self._alarms.put_for_now(
                "twice", f"two machines call themselves {name}; each needs its own name", now
            )
        elif refusal is None:
            if silent:
                self.known.waited_from = now  # the other links have their time as well
            if of_witness:
                heard.hear_witness(self.known, message)
            else:
                heard.hear_peer(self._states, message, before, now)
            self._states.consider(now)
            if self.known.state is State.BACKUP:
                self.known.forced = False  # it was for this moment
        return refusal, self._asks.flush()

    def misheard(self, link: int, key_id: int, now: float) -> list[Action]:
        """Something came from the peer's address that isn't sealed with a key of ours.

        Anybody may send it; where nothing else comes over the link, it is most likely the reason.
        """
        self._move(now)
        known, s = self.known, self.known.settings
        heard_at = max(known.peer.link_heard_at.get(link, _NEVER), known.waited_from)
        if now - heard_at >= s.dead:
            why = f"what comes from {s.peer} over link {s.links[link - 1]} isn't sealed with"
            files = f"is the file of key {key_id} (`ha.keys`) the same on both nodes?"
            self._alarms.put_for_now("key", f"{why} this node's key {key_id}: {files}", now)
        return self._asks.flush()

    def learn(self, now: float, facts: Facts) -> list[Action]:
        """Some facts are other ones now."""
        self._move(now)
        if self.known.learn(facts, now) and self.known.holding:
            self._asks.put(Announce())
        self._states.consider(now)
        return self._asks.flush()

    def probed(self, ticket: int, holder: Holder, told: str, now: float) -> list[Action]:
        """A probe's answer, with who was found in words; `learn` was told of the gateway before."""
        self._move(now)
        if self._asks.is_over(Probe(ticket)):
            self._states.next_probe = now + self.known.settings.interval / 2
            self._states.judge_probe(holder, told, now)
            self._states.consider(now)
        return self._asks.flush()

    def fenced(self, ticket: int, problem: str, now: float) -> list[Action]:
        """How the fence command ended; `problem` is empty where it succeeded."""
        self._move(now)
        if self._asks.is_over(Fence(ticket)):
            self._alarms.put("fence", problem and f"the fence command failed: {problem}")
            self._states.fenced = not problem
            self._states.next_probe = now + (_FENCE_AGAIN if problem else 0)
            self._states.consider(now)
        return self._asks.flush()

    def taken(self, ticket: int, now: float) -> list[Action]:
        """The addresses are there."""
        self._move(now)
        if self._asks.is_over(Take(ticket)):
            if self.known.state is State.CANDIDATE:
                self.known.takeovers += 1
                self._states.enter(State.ACTIVE, self.known.why, now)
                self._asks.say_lost_words(now)
                self._states.hello(now)
            self._asks.put(Announce())
            self._states.consider(now)
        return self._asks.flush()

    def failed(self, problem: str, now: float) -> list[Action]:
        """The addresses can't be added, or their lease not be renewed."""
        self._move(now)
        if self.known.holding:
            self._states.fault_until = now + self.known.settings.fault_hold
            self._states.let_go(State.FAULT, problem, now)
        return self._asks.flush()

    def dropped(self, ticket: int, now: float) -> list[Action]:
        """The addresses are gone."""
        self._move(now)
        if self._asks.is_over(Drop(ticket)) and self.known.state is State.RELEASING:
            self._states.have_released(now)
        return self._asks.flush()

    def gone(self, address: str, now: float) -> list[Action]:
        """An address that we hold was removed, by somebody or at the end of its lease."""
        self._move(now)
        if self.known.state is State.ACTIVE and not isinstance(self._asks.awaited, Take):
            hold = self.known.settings.fault_hold
            if now - self._readded_at < hold:
                self._states.fault_until = now + hold
                self._states.let_go(State.FAULT, f"{address} was removed again and again", now)
            else:
                self._readded_at = now
                self._asks.say("warning", "address removed", f"{address} was removed; added again")
                self._asks.step(Take)
        return self._asks.flush()

    def claimed(self, address: str, by: str, now: float) -> list[Action]:
        """Somebody else tells the neighbours that an address that we hold is his.

        Anybody can say so: it is answered, and nothing else comes of it.
        """
        self._move(now)
        if self.known.state is State.ACTIVE:
            self._alarms.put_for_now(
                "claimed", f"{by} says that it has {address}; the neighbours are told", now
            )
            self._asks.put(Announce())
        return self._asks.flush()

    def command(
        self, command: Command, now: float, *, force: bool = False
    ) -> tuple[str, list[Action]]:
        """What an operator wants; why it isn't done, or nothing. `force` has a switch go to a node
        that is worse, or doesn't serve.
        """
        self._move(now)
        refusal = commands.obey(self._states, command, now, force=force)
        self._states.consider(now)
        return refusal, self._asks.flush()

    def configure(self, settings: Settings, now: float) -> list[Action]:
        """Go by other settings of the same node from here on."""
        self._move(now)
        self.known.configure(settings)
        self._states.consider(now)
        return self._asks.flush()

    def deadline(self) -> float:
        """When `tick` is due at the latest."""
        known, states = self.known, self._states
        moments = [known.silent_at, known.yielded_until, states.fault_until, known.quorum_until]
        if known.vacant_since is not None:
            moments.append(known.vacant_since + known.vacancy)
        if known.state is State.CANDIDATE:
            moments += [states.next_probe, known.promised_until]
        return min([states.next_hello, *(one for one in moments if one > self._moved_at)])

    def _move(self, now: float) -> None:
        """Called first by every input: has this node stood still since the one before?"""
        gap, self._moved_at = now - self._moved_at, now
        known = self.known
        if gap > known.settings.dead / 2:
            known.stalled_until = now + known.settings.dead
            known.waited_from = now
            if known.state is State.CANDIDATE and not known.holding:
                self._asks.awaited = None  # what is found out by now was so before
            self._asks.say("warning", "stood still", f"this node did nothing for {gap:.1f} s")
        if known.holding and gap > known.settings.lease - RENEWED_EVERY:
            # The peer may be active by now: not a word of being active before they are gone.
            why = f"it stood still for {gap:.1f} s, and the lease may be over"
            self._states.let_go(State.INIT, why, now)
