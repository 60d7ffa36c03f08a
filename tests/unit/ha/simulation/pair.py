"""A pair of balancers under a virtual clock, in a network that does its worst: two real state
machines, and a witness where one is configured. Everything follows from a seed.

Storms of faults alternate with quiet times. `invariants` says what has to hold, and looks at
every step. Datagrams go as `Message`, since `wire` is tested by itself. Run as a script with a
number of steps, and a seed to begin with.
"""

import heapq
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

from mailweir.ha.machine.facts import (
    Action,
    Announce,
    Drop,
    Facts,
    Fence,
    Holder,
    Probe,
    Say,
    Send,
    Settings,
    Take,
)
from mailweir.ha.machine.grants import WitnessMachine
from mailweir.ha.machine.wire import WITNESS, Message
from unit.ha.simulation.faults import Faults
from unit.ha.simulation.invariants import Watch
from unit.ha.simulation.nodes import Node

_LAST = 80
_RECORDED = 4000
_CLUSTER = 7
_TIMERS = ((0.2, 2.0, 3.0), (0.2, 2.0, 3.0), (0.1, 0.5, 3.0), (1.0, 4.0, 5.0), (0.1, 6.0, 2.0))


@dataclass(slots=True)
class Way:
    """One direction of a link."""

    up: bool = True
    loss: float = 0.0
    twice: float = 0.0
    slowest: float = 0.01

    def is_clean(self, slowest: float) -> bool:
        return self.up and not self.loss and self.slowest <= slowest

    def clean(self, slowest: float) -> None:
        self.up, self.loss, self.twice, self.slowest = True, 0.0, 0.0, slowest


class ThirdNode:
    """The witness's process."""

    def __init__(self, sim: "Simulation") -> None:
        self.sim = sim
        self.running = True
        self.start()

    def start(self) -> None:
        """A new life."""
        self.machine = WitnessMachine(
            cluster=_CLUSTER,
            newest_key=1,
            epoch=self.sim.random.getrandbits(63) | 1,
            lease=self.sim.settings.lease,
            dead=self.sim.settings.dead,
            now=self.sim.now,
        )

    def hear(self, message: Message) -> None:
        if self.running:
            refusal, answer = self.machine.heard(message, 0, self.sim.now)
            if refusal is None:
                self.sim.watch.witness_heard(message)
            if answer is not None:
                self.sim.carry(answer, 0, self.sim.witness_ways[answer.receiver, 1])


class Simulation:
    """One pair, from a seed."""

    def __init__(self, seed: int, faults: Sequence[str] = (), **settings: Any) -> None:
        self.random = random = Random(seed)  # noqa: S311 - to be repeated
        self.seed = seed
        self.now = 0.0
        self.steps = 0
        self.injected = 0
        self.counts: Counter[str] = Counter()
        self._order = count()
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.last: deque[str] = deque(maxlen=_LAST)
        self.recorded: deque[tuple[float, Message, int]] = deque(maxlen=_RECORDED)
        self.settings = _settings(random, 1, **settings)
        same = {key: getattr(self.settings, key) for key in _SHARED}
        second = _settings(random, 2, **{**same, **settings})
        # How long a datagram is on its way at most where a link is clean.
        self.slowest = random.choice((0.001, 0.02, 0.1, 0.1, self.settings.interval))
        self.ways = {(link, to): Way() for link in (1, 2) for to in (1, 2)}
        # To the witness, and back.
        self.witness_ways = {(number, back): Way() for number in (1, 2) for back in (0, 1)}
        self.segment = True  # the nodes reach each other where the addresses are
        self.watch = Watch(self)
        self.nodes = {1: Node(self, 1, self.settings), 2: Node(self, 2, second)}
        self.third = ThirdNode(self) if self.settings.witness else None
        self.faults = Faults(self, faults)
        for node in self.nodes.values():
            self.at(random.choice((0.0, random.uniform(0, 5))), node.start)
        self.at(0.0, self.faults.begin)

    def run(self, steps: int) -> None:
        """Raises AssertionError with the seed and the last events."""
        queue = self._queue
        try:
            for _ in range(steps):
                self.now, _, call, given = heapq.heappop(queue)
                call(*given)
                self.steps += 1
                self.watch.look()
        except Exception as error:
            events = "\n".join(self.last)
            raise AssertionError(
                f"seed {self.seed}, step {self.steps}, {self.now:.3f} s, {self.settings}:\n"
                f"{events}\n{type(error).__name__}: {error}"
            ) from error

    def at(self, when: float, call: Callable[..., None], *given: Any) -> None:
        heapq.heappush(self._queue, (when, next(self._order), call, given))

    def tell(self, number: int, event: str) -> None:
        self.last.append(f"{self.now:10.3f} {'-ab'[number]} {event}")

    def other(self, node: Node) -> Node:
        return self.nodes[3 - node.number]

    # --- what machines ask for ---------------------------------------------------

    def perform(self, node: Node, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Send(message, to_witness):
                    self.watch.sends(node, message)
                    self._send(node, message, to_witness)
                case Say(_, event, reason):
                    self.tell(node.number, f"{event}: {reason}")
                    self.watch.said(node, event)
                case Take() | Drop():
                    self.watch.asked(node, action)
                    node.kernel.do(action)
                case Probe(ticket):
                    wait = min(0.1, self.settings.interval / 2)
                    self.at(self.now + wait, self._probed, node, node.life, ticket)
                case Fence(ticket):
                    self.at(self.now + 0.5, self._fenced, node, node.life, ticket)
                case Announce():
                    pass

    def _send(self, node: Node, message: Message, to_witness: bool) -> None:
        if to_witness:
            self.carry(message, 0, self.witness_ways[node.number, 0])
        else:
            self.recorded.append((self.now, message, 1))
            for link in (1, 2):
                self.carry(message, link, self.ways[link, message.receiver])

    def carry(self, message: Message, link: int, way: Way) -> None:
        random = self.random
        if not way.up or (way.loss and random.random() < way.loss):
            return
        for _ in range(2 if way.twice and random.random() < way.twice else 1):
            self.at(self.now + random.random() * way.slowest, self.arrive, message, link)

    def arrive(self, message: Message, link: int) -> None:
        if message.receiver == WITNESS:
            if self.third is not None:
                self.third.hear(message)
        else:
            self.nodes[message.receiver].hear(message, link)

    def _holder(self, node: Node) -> Holder:
        other = self.other(node)
        if not (self.segment and node.carrier and other.carrier and other.kernel.has_addresses):
            return Holder.NOBODY
        return Holder.SERVING if other.health.ok else Holder.SILENT

    def _probed(self, node: Node, life: int, ticket: int) -> None:
        holder = self._holder(node)
        if holder is Holder.SILENT:
            self.at(self.now + 1, self._answer_probe, node, life, ticket, holder)
        else:
            self._answer_probe(node, life, ticket, holder)

    def _answer_probe(self, node: Node, life: int, ticket: int, holder: Holder) -> None:
        if node.settings.gateways:
            answers = node.gateway and node.carrier
            node.feed(lambda machine, now: machine.learn(now, Facts(gateway_answers=answers)), life)
        node.feed(lambda machine, now: machine.probed(ticket, holder, "by somebody", now), life)

    def _fenced(self, node: Node, life: int, ticket: int) -> None:
        problem = "it said no" if self.random.random() < 0.3 else ""
        if not problem and node.machine is not None and life == node.life:
            self.faults.fence(self.other(node))
        node.feed(lambda machine, now: machine.fenced(ticket, problem, now), life)


_SHARED = (
    *("interval", "dead", "lease", "preempt", "preempt_delay", "fault_hold", "gateways", "witness"),
    *("strict", "fence"),
)


def _settings(random: Random, number: int, **given: Any) -> Settings:
    interval, dead, lease = random.choice(_TIMERS)
    witness = random.random() < 0.5
    values: dict[str, Any] = {
        "node": "ab"[number - 1],
        "peer": "ba"[number - 1],
        "number": number,
        "cluster": _CLUSTER,
        "priority": random.choice((100, 100, 100, 30, 200, 254)),
        "newest_key": 1,
        "interval": interval,
        "dead": dead,
        "lease": lease,
        "preempt": random.random() < 0.4,
        "preempt_delay": random.choice((0.0, 3.0, 10.0)),
        "fault_hold": random.choice((2.0, 5.0, 10.0)),
        "gateways": random.random() < 0.5,
        "witness": witness,
        "strict": witness and random.random() < 0.6,
        "fence": random.random() < 0.15,
        "links": ("cross", "lan"),
        "pair_digest": bytes(8),
    }
    return Settings(**{**values, **given})


def main() -> None:
    """Simulate until so many steps are done, with a new seed now and then."""
    wanted, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    began, done, counts = time.monotonic(), 0, Counter[str]()
    while done < wanted:
        sim = Simulation(seed)
        sim.run(min(20_000, wanted - done))
        done, seed = done + sim.steps, seed + 1
        counts += sim.counts
        for key, value in sim.watch.longest.items():
            counts[key] = max(counts[key], round(value * 1000))
    print(f"{done} steps in {time.monotonic() - began:.0f} s, next seed {seed}")
    for key, value in sorted(counts.items()):
        print(f"  {key}: {value}")


if __name__ == "__main__":
    main()
