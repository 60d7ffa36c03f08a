"""The state machine of a node: when it has the virtual addresses. Pure: facts and time go in,
actions come out.

    INIT       heard nobody yet; after `dead`, or once the peer is heard: BACKUP
    BACKUP     the peer is silent on all links, has released, or neither has been active for a
               moment and this node is the better one: CANDIDATE
    CANDIDATE  nobody else has the addresses (a probe tells), and there is leave to take them (a
               gateway, the witness, the fence command, where they are configured): ACTIVE
    ACTIVE     has them, until it lets go: RELEASING, and then BACKUP, FAULT or MAINT
    FAULT      can't have them: no carrier, say; when that is over: BACKUP
    MAINT      an operator wants it to have none

Both nodes active breaks nothing but sessions, since each has its own; neither active is an outage.
So a node that can't know takes over, unless it may be the one that is cut off. In strict mode it
is the other way round: none is active without the peer's or the witness's word.

`known` is what it goes by, `judging` what follows from that, `facts` has the words. Called by
`agent`. Times are seconds of a clock that counts on while the machine is suspended.
"""

from mailweir.ha.machine import judging
from mailweir.ha.machine.alarms import Alarms
from mailweir.ha.machine.facts import (
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
from mailweir.ha.machine.known import Known, holds, lets_go, since_when, wants
from mailweir.ha.machine.outbox import Outbox
from mailweir.ha.machine.wire import WITNESS, Kind, Message, Refusal, State, Trouble

# A RELEASE or a CLAIM goes out so often, since one may be lost.
_TIMES = 3
# The lease is renewed so often: after standing still for what is left then, it may be over.
RENEWED_EVERY = 1.0
_FENCE_AGAIN = 5.0  # between runs of a fence command that failed
_NEVER = float("-inf")


class Machine:
    """One node of the pair. Every input returns what is to be done, in order."""

    def __init__(self, settings: Settings, *, epoch: int, now: float) -> None:
        """`epoch` is random for each life of the process."""
        self.known = Known(settings, epoch=epoch, now=now)
        self._asks = Outbox(self.known)
        self._moved_at = now
        self._next_hello = now
        self._released_at = _NEVER  # by the peer
        self._release_is_old = False
        self._fault_until = now
        self._readded_at = _NEVER
        self._alarms = Alarms(self.known.alarms, self._asks.say)
        self._next_probe = now
        self._fenced = False
        self._after = (State.BACKUP, "")  # what RELEASING is followed by, and why

    # --- inputs --------------------------------------------------------------

    def tick(self, now: float) -> list[Action]:
        """Time has passed. Called at `deadline` at the latest, after what has come was read."""
        self._move(now)
        self._consider(now)
        if now >= self._next_hello:
            self._hello(now)
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
                self._hear_witness(message)
            else:
                self._hear_peer(message, before, now)
            self._consider(now)
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
        self._consider(now)
        return self._asks.flush()

    def probed(self, ticket: int, holder: Holder, told: str, now: float) -> list[Action]:
        """A probe's answer, with who was found in words; `learn` was told of the gateway before."""
        self._move(now)
        if self._asks.is_over(Probe(ticket)):
            self._next_probe = now + self.known.settings.interval / 2
            self._judge_probe(holder, told, now)
            self._consider(now)
        return self._asks.flush()

    def fenced(self, ticket: int, problem: str, now: float) -> list[Action]:
        """How the fence command ended; `problem` is empty where it succeeded."""
        self._move(now)
        if self._asks.is_over(Fence(ticket)):
            self._alarms.put("fence", problem and f"the fence command failed: {problem}")
            self._fenced = not problem
            self._next_probe = now + (_FENCE_AGAIN if problem else 0)
            self._consider(now)
        return self._asks.flush()

    def taken(self, ticket: int, now: float) -> list[Action]:
        """The addresses are there."""
        self._move(now)
        if self._asks.is_over(Take(ticket)):
            if self.known.state is State.CANDIDATE:
                self.known.takeovers += 1
                self._enter(State.ACTIVE, self.known.why, now)
                self._asks.say_lost_words(now)
                self._hello(now)
            self._asks.put(Announce())
            self._consider(now)
        return self._asks.flush()

    def failed(self, problem: str, now: float) -> list[Action]:
        """The addresses can't be added, or their lease not be renewed."""
        self._move(now)
        if self.known.holding:
            self._fault_until = now + self.known.settings.fault_hold
            self._let_go(State.FAULT, problem, now)
        return self._asks.flush()

    def dropped(self, ticket: int, now: float) -> list[Action]:
        """The addresses are gone."""
        self._move(now)
        if self._asks.is_over(Drop(ticket)) and self.known.state is State.RELEASING:
            self._have_released(now)
        return self._asks.flush()

    def gone(self, address: str, now: float) -> list[Action]:
        """An address that we hold was removed, by somebody or at the end of its lease."""
        self._move(now)
        if self.known.state is State.ACTIVE and not isinstance(self._asks.awaited, Take):
            hold = self.known.settings.fault_hold
            if now - self._readded_at < hold:
                self._fault_until = now + hold
                self._let_go(State.FAULT, f"{address} was removed again and again", now)
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
        refusal = self._obey(command, now, force=force)
        self._consider(now)
        return refusal, self._asks.flush()

    def configure(self, settings: Settings, now: float) -> list[Action]:
        """Go by other settings of the same node from here on."""
        self._move(now)
        self.known.configure(settings)
        self._consider(now)
        return self._asks.flush()

    def deadline(self) -> float:
        """When `tick` is due at the latest."""
        known = self.known
        moments = [known.silent_at, known.yielded_until, self._fault_until, known.quorum_until]
        if known.vacant_since is not None:
            moments.append(known.vacant_since + known.vacancy)
        if known.state is State.CANDIDATE:
            moments += [self._next_probe, known.promised_until]
        return min([self._next_hello, *(one for one in moments if one > self._moved_at)])

    # --- what is to be decided ---------------------------------------------------

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
            self._let_go(State.INIT, why, now)

    def _consider(self, now: float) -> None:
        self._watch(now)
        for _ in State:
            before = self.known.state
            self._step(now)
            if self.known.state is before:
                return

    def _step(self, now: float) -> None:
        known = self.known
        match known.state:
            case State.INIT if known.heard_since() or now >= known.since + known.settings.silence:
                self._enter(State.BACKUP, "ready to take over", now)
            case State.BACKUP:
                self._stand_by(now)
            case State.CANDIDATE:
                self._apply(now)
            case State.ACTIVE:
                why, target = judging.reason_to_let_go(known, now)
                if target is not None:
                    self._let_go(target, why, now)
            case State.RELEASING if now >= known.since + known.settings.lease + RENEWED_EVERY:
                # A kernel that doesn't answer has at least let the lease run out.
                self._have_released(now)
            case State.FAULT if now >= self._fault_until and not known.carrier_lost:
                self._enter(State.BACKUP, "the fault is over", now)

    def _stand_by(self, now: float) -> None:
        known, peer = self.known, self.known.settings.peer
        silent = known.is_silent(now)
        if obstacle := judging.obstacle(known):
            known.why = obstacle
        elif silent and not judging.sees_others(known, now):
            known.why = judging.cut_off(known)
        elif silent:
            self._enter(State.CANDIDATE, f"{peer} was silent on all links", now)
        elif self._is_released(now):
            self._enter(State.CANDIDATE, judging.released(known), now)
        elif known.vacant_since is None:
            known.why = f"{peer} is active"
        elif now < known.vacant_since + known.vacancy:
            known.why = "neither node is active yet"
        elif judging.is_better(known, now):
            self._enter(State.CANDIDATE, "neither node was active", now)
        else:
            known.why = f"{peer} is to become active"

    def _apply(self, now: float) -> None:
        """To become active, unless something is against it by now."""
        known = self.known
        obstacle = judging.obstacle(known) or judging.peer_goes_first(known, now)
        if known.holding:
            if obstacle := obstacle or judging.leave_is_over(known, now):
                self._let_go(State.BACKUP, obstacle, now)
        elif obstacle:
            self._enter(State.BACKUP, obstacle, now)
        elif self._asks.awaited is not None or now < self._next_probe:
            return
        elif self._lacks_leave(now):
            return
        elif self._is_released(now) and not self._release_is_old:
            self._take(now)
        else:
            self._asks.step(Probe)

    def _judge_probe(self, holder: Holder, told: str, now: float) -> None:
        known = self.known
        silent = known.is_silent(now)
        if silent and not judging.sees_others(known, now):
            self._enter(State.BACKUP, judging.cut_off(known), now)
            return
        lease_over = now >= known.peer.heard_at + known.settings.lease + RENEWED_EVERY
        if holder is Holder.SERVING or (holder is Holder.SILENT and not lease_over):
            self._alarms.put("held", f"somebody has the addresses: {told}")
        elif silent and known.settings.fence and not self._fenced:
            self._asks.step(Fence)
        elif not self._lacks_leave(now):
            self._take(now)

    def _lacks_leave(self, now: float) -> bool:
        lacks = self.known.settings.strict and not judging.has_leave(self.known, now)
        why = "neither the peer nor the witness gives leave to be active"
        self._alarms.put("quorum", why if lacks else "")
        return lacks

    def _is_released(self, now: float) -> bool:
        """Whether the peer said a moment ago that it has let go: nothing has to be probed."""
        return now - self._released_at < self.known.settings.dead

    def _hear_witness(self, message: Message) -> None:
        known = self.known
        if judging.is_leave(known, message, known.witness):
            lease = min(message.lease / 1000, known.settings.lease)
            known.granted_until = max(known.granted_until, known.witness.echoed_at + lease)

    def _hear_peer(self, message: Message, before: Message | None, now: float) -> None:
        known = self.known
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
            self._released_at = _NEVER
        else:
            # It can't use our word any more: it would have to ask anew.
            known.promised_until = _NEVER
            if lets_go(message, before):
                self._released_at = now
                # Who read it late doesn't know what has happened since.
                self._release_is_old = known.peer.lag > known.settings.dead / 4
        if message.state is State.CANDIDATE and judging.gives_leave(known, now):
            self._next_hello = now
        match message.kind:
            case Kind.CLAIM if known.state is State.ACTIVE:
                force = Trouble.FORCED in message.trouble
                if refusal := judging.why_not_switch(known, now, force=force):
                    self._asks.say("warning", "the peer's claim is refused", refusal)
                else:
                    why = f"{known.settings.peer} asked for it"
                    self._let_go(State.BACKUP, why, now, force=force)
            case Kind.HELLO if message.state is known.state is State.ACTIVE:
                self._settle_conflict(message, now)

    def _settle_conflict(self, message: Message, now: float) -> None:
        """Both are active: both come to the same end of it."""
        known = self.known
        known.conflict_since = since_when(known.conflict_since, True, now)
        if why := judging.why_peer_wins(known, message, now):
            self._let_go(State.BACKUP, f"both were active, and {why}", now)
        else:
            self._hello(now)
            self._asks.put(Announce())

    def _obey(self, command: Command, now: float, *, force: bool) -> str:
        known = self.known
        if command is Command.READY:
            self._end_maintenance(now)
            return ""
        if command is Command.SWITCH and known.state is not State.ACTIVE:
            return self._claim(now, force=force)
        if known.state is State.ACTIVE and command is not Command.STOP:
            switch = command is Command.SWITCH
            why_not = (
                judging.why_not_switch(known, now, force=force)
                if switch
                else judging.why_not_rest(known, now)
            )
            if why_not:
                return why_not
        after = State.BACKUP if command is Command.SWITCH else State.MAINT
        why = judging.ENDS if command is Command.STOP else "an operator wants it so"
        if known.holding:
            self._let_go(after, why, now, force=force)
        elif known.state is State.RELEASING:
            self._after = (after, why)
        else:
            self._enter(after, why, now)
        return ""

    def _end_maintenance(self, now: float) -> None:
        why = "an operator ended the maintenance"
        if self.known.state is State.MAINT:
            self._enter(State.INIT, why, now)
        elif self.known.state is State.RELEASING and self._after[0] is State.MAINT:
            self._after = (State.INIT, why)

    def _claim(self, now: float, *, force: bool) -> str:
        refusal = judging.why_not_claim(self.known, now, force=force)
        if not refusal:
            self.known.forces = force
            self._asks.send(Kind.CLAIM, now, times=_TIMES)
        return refusal

    # --- what is done ------------------------------------------------------------

    def _take(self, now: float) -> None:
        known = self.known
        known.term = max(known.term, known.peer_term) + 1
        known.holding = True
        self._asks.step(Take)

    def _let_go(self, after: State, why: str, now: float, *, force: bool = False) -> None:
        known = self.known
        known.holding = known.forced = False
        known.forces = force
        if lost := known.health.sessions:
            known.lost_sessions += lost
            self._asks.say(
                "warning",
                "sessions are lost",
                f"{lost} at this node, whose addresses move ({why})",
            )
        self._released_at = _NEVER
        self._after = (after, why)
        self._enter(State.RELEASING, why, now)
        self._asks.step(Drop)

    def _have_released(self, now: float) -> None:
        known = self.known
        known.yielded_until = now + known.settings.dead + known.vacancy
        self._enter(*self._after, now)
        self._asks.send(Kind.RELEASE, now, times=_TIMES)
        if known.settings.witness:
            self._asks.send(Kind.RELEASE, now, to_witness=True)

    def _enter(self, state: State, why: str, now: float) -> None:
        """Whatever was awaited is of no interest any more."""
        known = self.known
        self._asks.say("info", f"{known.state} -> {state}", why)
        known.state, known.since, known.why = state, now, why
        self._asks.awaited = None
        self._next_hello = now
        if state is State.CANDIDATE:
            self._next_probe = now
            self._fenced = False
            known.ask(now)
        else:
            for key in ("held", "quorum", "fence", "claimed"):
                self._alarms.put(key, "")

    def _watch(self, now: float) -> None:
        """What is to be known of the peer whatever the state is."""
        known = self.known
        known.vacant_since = since_when(known.vacant_since, known.is_vacant(now), now)
        unready = bool(judging.why_not_redundant(known, now))
        known.unready_since = since_when(known.unready_since, unready, now)
        outranked = judging.outranks(known, now)
        known.outranked_since = since_when(known.outranked_since, outranked, now)
        told = known.peer.message
        both = told is not None and told.state is known.state is State.ACTIVE
        conflict = both and not known.is_silent(now)
        known.conflict_since = since_when(known.conflict_since, conflict, now)
        known.words.watch(known.peer.heard_at, now)
        for key, problem in judging.problems(known, now):
            self._alarms.put(key, problem)
        self._alarms.pass_by(now)

    # --- words -------------------------------------------------------------------

    def _hello(self, now: float) -> None:
        self._next_hello = now + self.known.settings.interval
        self._asks.send(Kind.HELLO, now)
        self._asks.send_words(now)
        if self.known.settings.witness:
            self._asks.send(Kind.HELLO, now, to_witness=True)
