"""What has to hold of a pair at every step, whatever happens to it. For `pair`.

T is the interval, D how long a datagram is on its way at most over a clean link (up, no loss).

1. Strict: the addresses are never at both nodes. Not even for a moment, in no network, with any
   process standing still for any time, killed or started anew, the witness as well.
2. Otherwise, they are at both for no longer than 3 T + 4 D + 50 ms once one link is clean in both
   directions and both processes run: a challenge and its echo, if one has a new life, then a hello;
   the removal takes some milliseconds. If datagrams come through in one direction alone, 2 `dead`
   more.
3. In a quiet time (both links clean, all processes run, facts don't change, no commands), if a node
   is able, they are at one for all but BOUND at the beginning, and at hand-overs for HAND_OVER.
4. A node listens to a number of a peer's life once, in rising order, and to no life again that
   another one has followed.
5. No hello says that a node is active after it stood still for longer than the lease, until it was
   told to remove the addresses.
6. In a quiet time at most 3 nodes become active, and none after BOUND, preempt's delay, fault_hold.
7. The addresses are at no node whose process runs and isn't candidate, active or releasing, nor at
   one without carrier, but for the milliseconds of the removal.
8. No node takes the addresses if a probe just before would have found the other one serving with
   them, nor if it hears nothing of the peer and was told that no gateway answers.
9. A node that can't serve gives up within 3 T + 4 D + 50 ms to a peer that stands ready, if they
   hear each other.
10. No node that hears the other over a clean link, for as long as in 2, takes it for dead.
11. A node whose balancer takes no new sessions (it drains, or is gone for a moment) never takes
   the addresses, unless an operator forces it: whether the peer can serve or not.
"""

from typing import TYPE_CHECKING

from mailweir.ha.machine.facts import Drop, Take, bond
from mailweir.ha.machine.inputs import Machine
from mailweir.ha.machine.wire import Flag, Kind, Message, Refusal, State

if TYPE_CHECKING:
    from unit.ha.simulation.nodes import Node
    from unit.ha.simulation.pair import Simulation

_NEVER = float("inf")
_HOLDERS = (State.CANDIDATE, State.ACTIVE, State.RELEASING)
_REMOVAL = 0.05


class Watch:
    """Looks at every step; raises AssertionError."""

    def __init__(self, sim: "Simulation") -> None:
        self._sim = sim
        s = sim.settings
        self._meet = 2 * s.interval + 3 * sim.slowest + 0.03
        self._bound = s.dead + 1.2 + 8 * s.interval + 6 * sim.slowest
        self._bound += bond(s.lease) if s.strict else 0
        self._bound += 6 if s.fence else 0
        self._hand_over = s.interval + 4 * sim.slowest + 0.05
        self._settled = self._bound + s.preempt_delay + s.fault_hold + 5
        self.quiet_since = _NEVER
        self._both_since = _NEVER
        self._none_since = 0.0
        self._contact_since = _NEVER
        self._takeovers = 0
        self._heard: dict[tuple[int, int], tuple[int, int]] = {}
        self._over: set[tuple[int, int, int]] = set()
        self._paused_at: dict[int, float] = {}
        self._owes: set[int] = set()  # a removal, before they may say that they are active
        self._serves_since: dict[int, float] = {1: _NEVER, 2: _NEVER}
        self._bad_since: dict[int, float] = {1: _NEVER, 2: _NEVER}
        self._useless_since: dict[int, float] = {1: _NEVER, 2: _NEVER}
        self.longest: dict[str, float] = {}

    # --- what has happened -------------------------------------------------------

    def addresses_changed(self) -> None:
        sim = self._sim
        now = sim.now
        have = [node.kernel.has_addresses for node in sim.nodes.values()]
        if all(have):
            assert not sim.settings.strict, "1: strict, and both have the addresses"
            self._both_since = now
        elif self._both_since != _NEVER:
            both = now - max(self._both_since, self._contact_since)
            self._longest("part of meet", both / self._meet)
            self._both_since = _NEVER
        if any(have):
            if self._none_since != _NEVER:
                none = now - max(self._none_since, self.quiet_since)
                if self._is_settled():
                    self._longest("part of hand-over", none / self._hand_over)
                else:
                    kind = (
                        "strict"
                        if sim.settings.strict
                        else "fence"
                        if sim.settings.fence
                        else "plain"
                    )
                    self._longest(f"part of bound, {kind}", none / self._bound)
            self._none_since = _NEVER
        else:
            self._none_since = now

    def network_changed(self) -> None:
        """Whether they hear each other by now."""
        sim = self._sim
        clean = any(
            all(sim.ways[link, to].is_clean(sim.slowest) for to in (1, 2)) for link in (1, 2)
        )
        run = all(one.machine is not None and not one.paused for one in sim.nodes.values())
        if not (clean and run):
            self._contact_since = _NEVER
        elif self._contact_since == _NEVER:
            self._contact_since = sim.now

    def process_changed(self, node: "Node") -> None:
        self._contact_since = _NEVER
        self.network_changed()
        now = self._sim.now
        if node.machine is None:
            self._owes.discard(node.number)
            self._paused_at.pop(node.number, None)
        elif node.paused:
            self._paused_at[node.number] = now
        elif now - self._paused_at.pop(node.number, now) > node.settings.lease:
            if node.machine.known.holding:
                self._owes.add(node.number)
        self._bad_since[node.number] = self._useless_since[node.number] = _NEVER

    def is_quiet(self, quiet: bool) -> None:
        self.quiet_since = self._sim.now if quiet else _NEVER
        self._takeovers = 0

    def heard(self, node: "Node", message: Message, refusal: Refusal | None) -> None:
        self._sim.counts[refusal.value if refusal else "heard"] += 1
        if refusal is not None:
            return
        key = (node.life * 2 + node.number - 1, message.sender)
        epoch, seq = self._heard.get(key, (0, 0))
        if epoch == message.epoch:
            assert message.seq > seq, f"4: {message.seq} heard after {seq}"
        elif epoch:
            self._over.add((*key, epoch))
        assert (*key, message.epoch) not in self._over, "4: a life that is over is heard again"
        self._heard[key] = (message.epoch, message.seq)

    def witness_heard(self, message: Message) -> None:
        self._sim.counts["witness heard"] += 1

    def sends(self, node: "Node", message: Message) -> None:
        if message.state is State.ACTIVE and message.kind is Kind.HELLO:
            assert node.number not in self._owes, "5: active after it stood still"

    def said(self, node: "Node", event: str) -> None:
        if event.endswith("-> candidate") and node.machine is not None:
            met = self._sim.now - self._contact_since > self._meet
            silent = node.machine.known.is_silent(node.clock())
            assert not (met and silent), "10: a peer that is heard is taken for dead"
        if not event.endswith("-> active"):
            return
        self._sim.counts["takeovers"] += 1
        self._takeovers += 1
        if self.quiet_since == _NEVER:
            return
        assert self._takeovers <= 3, "6: they go to and fro"
        quiet = self._sim.now - self.quiet_since
        self._longest("last takeover in quiet", quiet)
        assert quiet < self._settled, f"6: a takeover after {quiet:.1f} s of quiet"

    def asked(self, node: "Node", step: Take | Drop) -> None:
        if isinstance(step, Drop):
            self._owes.discard(node.number)
        elif node.machine is not None and node.machine.known.state is State.CANDIDATE:
            known, now = node.machine.known, self._sim.now
            assert known.forced or not known.health.away, "11: taken by who takes no new sessions"
            probed = 0.5 + known.settings.dead / 2
            served = now - self._serves_since[3 - node.number]
            assert served <= probed, f"8: taken from who serves for {served:.1f} s"
            alone = known.is_silent(node.clock()) and known.settings.gateways
            cut_off = alone and not known.settings.witness and known.gateway_answers is False
            assert not cut_off, "8: taken by who is cut off"

    # --- what is looked at after every step ---------------------------------------

    def look(self) -> None:
        sim = self._sim
        now = sim.now
        joined = sim.segment and all(node.carrier for node in sim.nodes.values())
        for node in sim.nodes.values():
            serves = joined and node.kernel.has_addresses and node.health.ok
            since = self._serves_since[node.number]
            self._serves_since[node.number] = self._since(serves, since)
            machine = node.machine
            if machine is not None and not node.paused:
                self._look_at(node, machine, now)
        if self._both_since != _NEVER:
            both = now - max(self._both_since, self._contact_since)
            assert both <= self._meet, f"2: both have them for {both:.2f} s"
        if self._none_since != _NEVER and self.quiet_since != _NEVER:
            none = now - max(self._none_since, self.quiet_since)
            bound = self._hand_over if self._is_settled() else self._bound
            if none > bound:
                assert not self._is_somebody_able(), f"3: nobody has them for {none:.2f} s"

    def _look_at(self, node: "Node", machine: Machine, now: float) -> None:
        state = machine.known.state
        wrong = node.kernel.has_addresses and (state not in _HOLDERS or not node.carrier)
        self._bad_since[node.number] = since = self._since(wrong, self._bad_since[node.number])
        assert now - since <= _REMOVAL, f"7: {node.settings.node} is {state} and has the addresses"
        if state is State.ACTIVE:
            meets = self._contact_since != _NEVER and not machine.known.forced
            useless = not node.health.ok and meets and self._is_ready(node)
        else:
            useless = False
        since = self._useless_since[node.number]
        self._useless_since[node.number] = since = self._since(useless, since)
        useless_for = now - max(since, self._contact_since)
        assert useless_for <= self._meet, f"9: {node.settings.node} can't serve, and keeps them"

    def _since(self, is_so: bool, before: float) -> float:
        return min(before, self._sim.now) if is_so else _NEVER

    def _is_ready(self, node: "Node") -> bool:
        other = self._sim.other(node)
        known = other.machine.known if other.machine else None
        return (
            known is not None
            and known.state is State.BACKUP
            and known.serves()
            and not known.carrier_lost
            # Who has just been told of isn't heard by the other yet.
            and self._sim.now - max(self._contact_since, 0) > 0
            and Flag.CARRIER_OK in known.flags(other.clock())
        )

    def _is_somebody_able(self) -> bool:
        for node in self._sim.nodes.values():
            known = node.machine.known if node.machine else None
            if known is None or not (node.carrier and known.serves()) or node.stopping:
                continue
            if known.state in (State.INIT, State.BACKUP, State.CANDIDATE, State.ACTIVE):
                return True
        return False

    def _is_settled(self) -> bool:
        """Whether they were somewhere in this quiet time for a while, and then nowhere."""
        return self._none_since > self.quiet_since + self._bound

    def _longest(self, what: str, seconds: float) -> None:
        if seconds > self.longest.get(what, 0.0):
            self.longest[what] = seconds
