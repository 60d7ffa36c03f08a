"""The states of a node, and who moves between them: when it has the virtual addresses. Pure.

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

`known` is what they go by, `judging` what follows from that, `outbox` has what they ask for. Called
by `inputs`, `heard` and `commands`. Times are seconds of a clock that counts on while the machine
is suspended.
"""

from mailweir.ha.machine import judging
from mailweir.ha.machine.alarms import Alarms
from mailweir.ha.machine.facts import RENEWED_EVERY, Drop, Fence, Holder, Probe, Take
from mailweir.ha.machine.known import Known, since_when
from mailweir.ha.machine.outbox import Outbox
from mailweir.ha.machine.wire import Kind, State

# A RELEASE or a CLAIM goes out so often, since one may be lost.
TIMES = 3
_NEVER = float("-inf")


class States:
    """Of one node. Who learns something changes `known`, and has it considered."""

    def __init__(self, known: Known, now: float) -> None:
        self.known = known
        self.asks = Outbox(known)
        self.alarms = Alarms(known.alarms, self.asks.say)
        self.next_hello = now
        self.released_at = _NEVER  # by the peer
        self.release_is_old = False
        self.fault_until = now
        self.next_probe = now
        self.fenced = False
        self.after = (State.BACKUP, "")  # what RELEASING is followed by, and why

    # --- what is decided -----------------------------------------------------

    def consider(self, now: float) -> None:
        """Go to the state that follows from what is known."""
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
                self.enter(State.BACKUP, "ready to take over", now)
            case State.BACKUP:
                self._stand_by(now)
            case State.CANDIDATE:
                self._apply(now)
            case State.ACTIVE:
                why, target = judging.reason_to_let_go(known, now)
                if target is not None:
                    self.let_go(target, why, now)
            case State.RELEASING if now >= known.since + known.settings.lease + RENEWED_EVERY:
                # A kernel that doesn't answer has at least let the lease run out.
                self.have_released(now)
            case State.FAULT if now >= self.fault_until and not known.carrier_lost:
                self.enter(State.BACKUP, "the fault is over", now)

    def _stand_by(self, now: float) -> None:
        known, peer = self.known, self.known.settings.peer
        silent = known.is_silent(now)
        if obstacle := judging.obstacle(known):
            known.why = obstacle
        elif silent and not judging.sees_others(known, now):
            known.why = judging.cut_off(known)
        elif silent:
            self.enter(State.CANDIDATE, f"{peer} was silent on all links", now)
        elif self.is_released(now):
            self.enter(State.CANDIDATE, judging.released(known), now)
        elif known.vacant_since is None:
            known.why = f"{peer} is active"
        elif now < known.vacant_since + known.vacancy:
            known.why = "neither node is active yet"
        elif judging.is_better(known, now):
            self.enter(State.CANDIDATE, "neither node was active", now)
        else:
            known.why = f"{peer} is to become active"

    def _apply(self, now: float) -> None:
        """To become active, unless something is against it by now."""
        known = self.known
        obstacle = judging.obstacle(known) or judging.peer_goes_first(known, now)
        if known.holding:
            if obstacle := obstacle or judging.leave_is_over(known, now):
                self.let_go(State.BACKUP, obstacle, now)
        elif obstacle:
            self.enter(State.BACKUP, obstacle, now)
        elif self.asks.awaited is not None or now < self.next_probe:
            return
        elif self._lacks_leave(now):
            return
        elif self.is_released(now) and not self.release_is_old:
            self._take()
        else:
            self.asks.step(Probe)

    def judge_probe(self, holder: Holder, told: str, now: float) -> None:
        """Take the addresses, or not, by who was found to have them."""
        known = self.known
        silent = known.is_silent(now)
        if silent and not judging.sees_others(known, now):
            self.enter(State.BACKUP, judging.cut_off(known), now)
            return
        lease_over = now >= known.peer.heard_at + known.settings.lease + RENEWED_EVERY
        if holder is Holder.SERVING or (holder is Holder.SILENT and not lease_over):
            self.alarms.put("held", f"somebody has the addresses: {told}")
        elif silent and known.settings.fence and not self.fenced:
            self.asks.step(Fence)
        elif not self._lacks_leave(now):
            self._take()

    def _lacks_leave(self, now: float) -> bool:
        lacks = self.known.settings.strict and not judging.has_leave(self.known, now)
        why = "neither the peer nor the witness gives leave to be active"
        self.alarms.put("quorum", why if lacks else "")
        return lacks

    def is_released(self, now: float) -> bool:
        """Whether the peer said a moment ago that it has let go: nothing has to be probed."""
        return now - self.released_at < self.known.settings.dead

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
            self.alarms.put(key, problem)
        self.alarms.pass_by(now)

    # --- what is done ------------------------------------------------------------

    def _take(self) -> None:
        known = self.known
        known.term = max(known.term, known.peer_term) + 1
        known.holding = True
        self.asks.step(Take)

    def let_go(self, after: State, why: str, now: float, *, force: bool = False) -> None:
        """Have the addresses dropped, and go to the state `after` that then."""
        known = self.known
        known.holding = known.forced = False
        known.forces = force
        if lost := known.health.sessions:
            known.lost_sessions += lost
            self.asks.say(
                "warning",
                "sessions are lost",
                f"{lost} at this node, whose addresses move ({why})",
            )
        self.released_at = _NEVER
        self.after = (after, why)
        self.enter(State.RELEASING, why, now)
        self.asks.step(Drop)

    def have_released(self, now: float) -> None:
        """They are gone."""
        known = self.known
        known.yielded_until = now + known.settings.dead + known.vacancy
        self.enter(*self.after, now)
        self.asks.send(Kind.RELEASE, now, times=TIMES)
        if known.settings.witness:
            self.asks.send(Kind.RELEASE, now, to_witness=True)

    def enter(self, state: State, why: str, now: float) -> None:
        """Whatever was awaited is of no interest any more; the peer hears of it at once."""
        known = self.known
        self.asks.say("info", f"{known.state} -> {state}", why)
        known.state, known.since, known.why = state, now, why
        self.asks.awaited = None
        self.next_hello = now
        if state is State.CANDIDATE:
            self.next_probe = now
            self.fenced = False
            known.ask(now)
        else:
            for key in ("held", "quorum", "fence", "claimed"):
                self.alarms.put(key, "")

    def hello(self, now: float) -> None:
        """Say to the peer, and to the witness, how this node is."""
        self.next_hello = now + self.known.settings.interval
        self.asks.send(Kind.HELLO, now)
        self.asks.send_words(now)
        if self.known.settings.witness:
            self.asks.send(Kind.HELLO, now, to_witness=True)
