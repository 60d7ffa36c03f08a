"""A node of a simulated pair: its process with the real state machine, and its kernel, which keeps
the addresses for the length of their lease whatever becomes of the process.

For `pair`. Times without a name are the simulation's; a node's own clock runs a little
faster or slower and begins anywhere.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from mailweir.ha.machine.facts import (
    RENEWED_EVERY,
    Action,
    BalancerHealth,
    Drop,
    Facts,
    Settings,
    Take,
)
from mailweir.ha.machine.inputs import Machine
from mailweir.ha.machine.wire import Message

if TYPE_CHECKING:
    from unit.ha.simulation.pair import Simulation

Input = Callable[[Machine, float], list[Action]]
# What a socket keeps for a process that stands still.
_INBOX = 200
_DIGEST = b"digest-1"


class Kernel:
    """What the kernel of a node has, whatever process there is."""

    def __init__(self, sim: "Simulation", node: "Node") -> None:
        self._sim = sim
        self._node = node
        self._version = 0
        self._busy_until = 0.0
        self.has_addresses = False
        self.refuses_until = 0.0
        self.under_way = 0

    def do(self, step: Take | Drop) -> None:
        """One after the other, each in some milliseconds."""
        sim = self._sim
        self._busy_until = max(self._busy_until, sim.now) + sim.random.uniform(0.001, 0.005)
        self.under_way += 1
        sim.at(self._busy_until, self._done, step, self._node.life, sim.now)

    def _done(self, step: Take | Drop, life: int, began: float) -> None:
        self.under_way -= 1
        node = self._node
        if isinstance(step, Drop):
            if life == node.life:
                node.renewed_at = None
            self.remove()
            node.feed(lambda machine, now: machine.dropped(step.ticket, now), life)
        elif self._sim.now < self.refuses_until:
            node.feed(lambda machine, now: machine.failed("no such device", now), life)
        else:
            self.renew()
            if life == node.life:
                node.renewed_at = began
                self._sim.at(began + RENEWED_EVERY, node.renew, life, began)
            node.feed(lambda machine, now: machine.taken(step.ticket, now), life)

    def renew(self) -> None:
        """They are here for another lease; the kernel is a little late with taking them away."""
        self._version += 1
        sim = self._sim
        self._set(True)
        end = sim.now + sim.settings.lease + sim.random.uniform(0, 0.9)
        sim.at(end, self._lease_over, self._version)

    def remove(self) -> None:
        self._version += 1
        self._set(False)

    def _lease_over(self, version: int) -> None:
        if version == self._version:
            self.remove()
            self._node.feed(lambda machine, now: machine.gone("the address", now))

    def _set(self, here: bool) -> None:
        if here != self.has_addresses:
            self.has_addresses = here
            self._sim.tell(self._node.number, "kernel: " + ("has them" if here else "has none"))
            self._sim.watch.addresses_changed()


class Node:
    """One machine of the pair, with the process that runs on it, if it does."""

    def __init__(self, sim: "Simulation", number: int, settings: Settings) -> None:
        self.sim = sim
        self.number = number
        self.settings = settings
        random = sim.random
        self._rate = 1 + random.uniform(-0.0004, 0.0004)
        self._began = random.uniform(10, 1e6)
        self.kernel = Kernel(sim, self)
        self.life = 0
        self.machine: Machine | None = None
        self.paused = False
        self.pause = 0  # counts them
        self._inbox: deque[tuple[int, Input]] = deque()
        self._datagrams: deque[tuple[int, Message, int]] = deque(maxlen=_INBOX)
        self._tick_at = float("inf")
        self._tick = 0
        self.renewed_at: float | None = None
        self.carrier = True
        self.gateway = True
        self.health = BalancerHealth(ok=True, why="", config_digest=_DIGEST)
        self.stopping = False

    def clock(self) -> float:
        """This node's own."""
        return self._began + self.sim.now * self._rate

    # --- the process -----------------------------------------------------------

    def start(self) -> None:
        """A new life; what an earlier one left is cleared first."""
        if self.machine is not None:
            return
        self.life += 1
        self.kernel.remove()
        self.stopping = False
        epoch = self.sim.random.getrandbits(63) | 1
        self.machine = Machine(self.settings, epoch=epoch, now=self.clock())
        self.sim.tell(self.number, f"starts, epoch {epoch}")
        self.sim.watch.process_changed(self)
        self.learn()
        self.sim.at(self.sim.now, self._ask_gateway, self.life)

    def kill(self) -> None:
        self.machine = None
        self.paused = False
        self.pause += 1
        self.life += 1
        self.renewed_at = None
        self._inbox.clear()
        self._datagrams.clear()
        self.sim.tell(self.number, "is killed")
        self.sim.watch.process_changed(self)

    def reboot(self) -> None:
        """The whole machine: its clock begins anew."""
        self.kill()
        self.kernel.remove()
        self._began = self.sim.random.uniform(10, 1e3) - self.sim.now

    def stand_still(self, seconds: float) -> None:
        if not self.paused and self.machine is not None:
            self.paused = True
            self.pause += 1
            self.sim.tell(self.number, f"stands still for {seconds:.2f} s")
            self.sim.watch.process_changed(self)
            self.sim.at(self.sim.now + seconds, self.go_on, self.pause)

    def go_on(self, pause: int | None = None) -> None:
        """Datagrams are read first, as the agent does."""
        if not self.paused or pause not in (None, self.pause):
            return
        self.paused = False
        self.sim.tell(self.number, "goes on")
        self.sim.watch.process_changed(self)
        while self._datagrams and not self.paused:
            life, message, link = self._datagrams.popleft()
            self.hear(message, link, life)
        self.feed(Machine.tick)
        inputs = list(self._inbox)
        self._inbox.clear()
        for life, given in inputs:
            self.feed(given, life)

    # --- inputs ----------------------------------------------------------------

    def feed(self, given: Input, life: int | None = None) -> None:
        """For this life of the process, if it is that one still."""
        machine = self.machine
        if machine is None or life not in (None, self.life):
            return
        if self.paused:
            self._inbox.append((self.life, given))
            return
        self.sim.perform(self, given(machine, self.clock()))
        self._set_timer()

    def hear(self, message: Message, link: int, life: int | None = None) -> None:
        machine = self.machine
        if machine is None or life not in (None, self.life):
            return
        if self.paused:
            self._datagrams.append((self.life, message, link))
            return
        refusal, actions = machine.heard(message, link, self.clock())
        self.sim.watch.heard(self, message, refusal)
        self.sim.perform(self, actions)
        self._set_timer()

    def learn(self) -> None:
        """How this node is, as of now."""
        lost = "" if self.carrier else "eth0 has no carrier"
        health = self.health
        self.feed(lambda machine, now: machine.learn(now, Facts(health=health, carrier_lost=lost)))

    def renew(self, life: int, of: float) -> None:
        """As `holding` does it."""
        if life != self.life or self.renewed_at != of or self.machine is None:
            return
        if self.paused:
            self._inbox.append((life, lambda *_: self._renew_late(life, of)))
        elif not self.kernel.under_way:
            if self.sim.now - of > self.settings.lease - RENEWED_EVERY / 2:
                self.renewed_at = None
                self.feed(lambda machine, now: machine.failed("the lease is over", now))
                return
            self.renewed_at = self.sim.now
            # Removed by hand meanwhile: to renew is to add.
            self.kernel.renew()
            self.sim.at(self.sim.now + RENEWED_EVERY, self.renew, life, self.sim.now)

    def _renew_late(self, life: int, of: float) -> list[Action]:
        self.renew(life, of)
        return []

    def _ask_gateway(self, life: int) -> None:
        if life != self.life or not self.settings.gateways:
            return
        answers = self.gateway and self.carrier
        self.feed(lambda machine, now: machine.learn(now, Facts(gateway_answers=answers)), life)
        self.sim.at(self.sim.now + 1 + (0 if answers else 0.5), self._ask_gateway, life)

    def _set_timer(self) -> None:
        if self.machine is None:
            return
        due = (self.machine.deadline() - self._began) / self._rate
        due = max(due, self.sim.now) + self.sim.random.random() * 0.001 + 1e-6
        if due < self._tick_at or self._tick_at < self.sim.now:
            self._tick += 1
            self._tick_at = due
            self.sim.at(due, self._tick_due, self._tick)

    def _tick_due(self, tick: int) -> None:
        if tick == self._tick:
            self._tick_at = float("inf")
            if not self.paused:
                self.feed(Machine.tick)
