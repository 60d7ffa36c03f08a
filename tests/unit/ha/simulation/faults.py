"""What happens to a simulated pair: storms of faults, then quiet times in a network that is whole.

For `pair`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mailweir.ha.machine.facts import Command
from mailweir.ha.machine.wire import Message

if TYPE_CHECKING:
    from unit.ha.simulation.nodes import Node
    from unit.ha.simulation.pair import Simulation, Way

_COMMANDS = (*[Command.SWITCH] * 5, Command.MAINT, *[Command.READY] * 3, Command.STOP)
_STILL = (0.3, 0.9, 1.1, 1.9, 2.5, 3.0, 3.5, 5.0, 10.0)


class Faults:
    """Chooses and injects them."""

    def __init__(self, sim: "Simulation", only: Sequence[str] = ()) -> None:
        """`only` these kinds, by name, where some are given."""
        self._sim = sim
        self._random = sim.random
        self._storm_until = 0.0
        self._rate = 1.0
        self._all: tuple[Callable[[], None], ...] = (
            *[self._one_way] * 6,
            *[self._one_link] * 4,
            *[self._all_links] * 5,
            *[self._isolate] * 4,
            *[self._pause] * 4,
            *[self._crash] * 2,
            *[self._health] * 3,
            *[self._carrier] * 2,
            *[self._gateway] * 2,
            *[self._command] * 4,
            self._segment,
            self._removed,
            self._claimed,
            self._refuses,
            self._replay,
            self._witness,
            self._third,
            self._calm,
            self._digest,
        )
        if only:
            self._all = tuple(getattr(self, f"_{kind}") for kind in only)

    def begin(self) -> None:
        """A storm, mostly of a few kinds: where all fail at once, nobody is active for long."""
        random, sim = self._random, self._sim
        sim.watch.is_quiet(False)
        self._storm_until = sim.now + random.uniform(3, 30)
        self._rate = random.choice((0.2, 0.5, 1.0, 3.0))
        kinds = random.sample(self._all, min(len(self._all), random.choice((2, 3, 4))))
        self._kinds = self._all if random.random() < 0.2 else tuple(kinds)
        self._next()

    def fence(self, node: "Node") -> None:
        """The peer has it switched off; somebody switches it on again."""
        node.reboot()
        self._sim.at(self._sim.now + 5, node.start)

    def _next(self) -> None:
        sim = self._sim
        if sim.now >= self._storm_until:
            self._quieten()
            return
        kind = self._random.choice(self._kinds)
        sim.injected += 1
        sim.counts[f"injected:{kind.__name__[1:]}"] += 1
        sim.tell(0, f"fault {kind.__name__[1:]}")
        kind()
        sim.at(sim.now + self._random.expovariate(self._rate), self._next)

    def _quieten(self) -> None:
        """All is well again, or nearly so, and stays like that for a while."""
        sim, random = self._sim, self._random
        sim.tell(0, "quiet begins")
        self._calm()
        sim.segment = True
        if sim.third is not None:
            sim.third.running = True
        for node in sim.nodes.values():
            node.go_on()
            node.stopping = False
            node.start()
            node.carrier = random.random() < 0.93
            node.gateway = True
            node.kernel.refuses_until = 0.0
            penalty = random.choice((0, 0, 0, 50))
            ok = random.random() < 0.9
            digest = sim.nodes[1].health.config_digest if random.random() < 0.8 else b"digest-2"
            away = random.random() < 0.2
            why = "no server of pool x is up" if penalty or not ok or away else ""
            paused = random.choice(("", "", "", "by root"))
            node.health = replace(
                node.health,
                ok=ok,
                penalty=penalty,
                why=why,
                away=away,
                paused=paused,
                config_digest=digest,
            )
            node.learn()
            if random.random() < 0.9:
                self._tell(node, Command.READY)
        sim.watch.is_quiet(True)
        length = random.choice((10, 15, 20, 60))
        for _ in range(random.choice((0, 0, 2, 20))):
            sim.at(sim.now + random.uniform(0, length), self._replay)
        sim.at(sim.now + length, self.begin)

    # --- the network -------------------------------------------------------------

    def _spoil(self, way: "Way") -> None:
        random = self._random
        way.up = random.random() < 0.6
        way.loss = random.choice((0.0, 0.05, 0.3, 0.8))
        way.twice = random.choice((0.0, 0.5))
        way.slowest = random.choice((self._sim.slowest, 0.5))
        self._sim.watch.network_changed()

    def _one_way(self) -> None:
        self._spoil(self._random.choice(list(self._sim.ways.values())))

    def _one_link(self) -> None:
        link = self._random.choice((1, 2))
        for to in (1, 2):
            self._spoil(self._sim.ways[link, to])

    def _all_links(self) -> None:
        """Both ways or one, with or without the segment of the addresses."""
        random, sim = self._random, self._sim
        for to in random.choice(((1, 2), (1,), (2,))):
            for link in (1, 2):
                sim.ways[link, to].up = False
        if random.random() < 0.5:
            sim.segment = False
        sim.watch.network_changed()

    def _isolate(self) -> None:
        """One node, from all others or from some, and for the others' datagrams or for its own."""
        random, sim = self._random, self._sim
        number = random.choice((1, 2))
        to, of = random.choice(((True, True), (True, True), (True, False), (False, True)))
        ways = [sim.ways[link, 3 - number] for link in (1, 2) if of]
        ways += [sim.ways[link, number] for link in (1, 2) if to]
        if random.random() < 0.6:
            ways += [sim.witness_ways[number, back] for back in (0, 1) if (to if back else of)]
        for way in ways:
            way.up = False
        # In strict mode nothing may depend on a probe, so they seldom help there.
        if random.random() < (0.9 if sim.settings.strict else 0.5):
            sim.segment = False
        sim.watch.network_changed()
        if random.random() < 0.5:
            sim.at(sim.now + random.uniform(0.5, 20), self._calm)

    def _calm(self) -> None:
        sim = self._sim
        for way in (*sim.ways.values(), *sim.witness_ways.values()):
            way.clean(sim.slowest)
        sim.watch.network_changed()

    def _segment(self) -> None:
        self._sim.segment = not self._sim.segment

    def _witness(self) -> None:
        self._spoil(self._random.choice(list(self._sim.witness_ways.values())))

    def _third(self) -> None:
        """The witness's process stands still, goes on, or begins anew."""
        third = self._sim.third
        if third is None:
            return
        if self._random.random() < 0.3:
            third.running = not third.running
        else:
            third.running = True
            third.start()

    def _replay(self) -> None:
        """What was recorded, and is so old that it can't be late: in order, or reversed, of every
        life there was, now over either link.
        """
        sim, random = self._sim, self._random
        old = sim.now - 3 * sim.settings.dead - 2
        found = [one for one in sim.recorded if one[0] < old]
        begin = random.randrange(max(1, len(found)))
        some = found[begin : begin + random.choice((5, 5, 5, 60))]
        if random.random() < 0.3:
            some.reverse()
        for number, (_, message, _) in enumerate(some):
            link = random.choice((1, 2))
            sim.at(sim.now + number * 0.002, self._again, message, link)

    def _again(self, message: Message, link: int) -> None:
        self._sim.counts["replayed"] += 1
        self._sim.arrive(message, link)

    # --- the nodes ---------------------------------------------------------------

    def _node(self) -> "Node":
        return self._random.choice(list(self._sim.nodes.values()))

    def _pause(self) -> None:
        self._node().stand_still(self._random.choice(_STILL) * self._random.uniform(0.95, 1.05))

    def _crash(self) -> None:
        node, random = self._node(), self._random
        if node.machine is None or node.paused:
            return
        if random.random() < 0.3:
            node.reboot()
        else:
            node.kill()
        self._sim.at(self._sim.now + random.choice((0.05, 1.0, 3.0, 10.0)), node.start)

    def _health(self) -> None:
        node, random = self._node(), self._random
        ok = random.random() < 0.6
        penalty = random.choice((0, 0, 50)) if ok else 0
        away = random.random() < 0.3
        why = "" if ok and not penalty and not away else "something is wrong with the balancer"
        paused = random.choice(("", "", "", "by root"))
        node.health = replace(
            node.health, ok=ok, penalty=penalty, why=why, away=away, paused=paused, sessions=3
        )
        node.learn()

    def _digest(self) -> None:
        node = self._node()
        digest = self._random.choice((b"digest-1", b"digest-2"))
        node.health = replace(node.health, config_digest=digest)
        node.learn()

    def _carrier(self) -> None:
        node = self._node()
        node.carrier = not node.carrier
        node.learn()

    def _gateway(self) -> None:
        node = self._node()
        node.gateway = not node.gateway

    def _command(self) -> None:
        self._tell(self._node(), self._random.choice(_COMMANDS))

    def _tell(self, node: "Node", command: Command) -> None:
        self._sim.tell(node.number, f"command {command}")
        force = command is Command.SWITCH and self._random.random() < 0.3
        node.feed(lambda machine, now: machine.command(command, now, force=force)[1])
        if command is Command.STOP and node.machine is not None:
            node.stopping = True
            self._sim.at(self._sim.now + 1, self._stopped, node, node.life)

    def _stopped(self, node: "Node", life: int) -> None:
        if life != node.life or not node.stopping:
            return
        node.kill()
        self._sim.at(self._sim.now + self._random.choice((0.1, 5.0)), node.start)

    def _removed(self) -> None:
        node = self._node()
        if node.kernel.has_addresses:
            node.kernel.remove()
            node.feed(lambda machine, now: machine.gone("192.0.2.10", now))

    def _claimed(self) -> None:
        self._node().feed(lambda machine, now: machine.claimed("192.0.2.10", "02::01", now))

    def _refuses(self) -> None:
        node = self._node()
        node.kernel.refuses_until = self._sim.now + self._random.uniform(0.5, 5)
