"""One round: a settled pair, clients, an event, and the pair settled again.

Nothing waits for a fixed time but for the moment of the event, which is at random, so that it
doesn't keep step with anybody's timers.
"""

import io
import random
import time
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path

from benches.failover.contender import ADDRESS, Contender

from harness.networks.pair import NODES, Node, Pair
from harness.pair.holders import Holders
from harness.pair.outage import Gap, Outage, gap, outage_clients_of
from harness.waiting import until

_SETTLED_LIMIT = 60.0  # seconds
_TAKEN_LIMIT = 30.0
_PHASE = 1.0  # the longest interval of all timers that are measured


# The active node loses its power; an operator has the other one take over.
KILL, SWITCH = "kill", "switch"
EVENTS = (KILL, SWITCH)


@dataclass(frozen=True)
class Sample:
    """What came of an event; seconds."""

    seen: Gap  # by clients
    nobody: float  # had the address
    dual: float  # two had it


@dataclass(frozen=True)
class Bench:
    """Where a contender's rounds take place."""

    pair: Pair
    contender: Contender
    holders: Holders
    directory: Path
    rate: float  # of clients, a second

    def round(self, event: str) -> Sample:
        """Settle, measure. A node that lost its power has it again afterwards, and runs nothing."""
        active = self.settle()
        clients = outage_clients_of(self.directory, ADDRESS, self.pair.before("cl"), rate=self.rate)
        with redirect_stderr(io.StringIO()), clients as outage:
            outage.until_steady()
            time.sleep(random.uniform(0, _PHASE))  # noqa: S311
            began = time.monotonic()
            try:
                self._happen(event, active)
                self._taken(active, outage)
                held = self.holders.over(began)
            finally:
                if event == KILL:
                    self.pair.revive(active)
        return Sample(gap(outage.attempts(), began), held.nobody, held.dual)

    def settle(self) -> Node:
        """Both nodes run and are ready, one has the address: this one."""
        for node in NODES:
            self.contender.start(node)
        until(self._ready, "both nodes to be ready", limit=_SETTLED_LIMIT)
        until(lambda: self.holders.only, "one node to have the address", limit=_SETTLED_LIMIT)
        return next(node for node in NODES if node == self.holders.only)

    def _ready(self) -> bool:
        self.contender.programs.check()
        return all(map(self.contender.is_ready, NODES))

    def _happen(self, event: str, active: Node) -> None:
        if event == KILL:
            self.pair.kill(active, self.contender.programs.pids(active))
        else:
            self.contender.switch(active)

    def _taken(self, active: Node, outage: Outage) -> None:
        until(
            lambda: self.holders.only not in (None, active),
            "the other node to have the address",
            limit=_TAKEN_LIMIT,
        )
        outage.until_steady(time.monotonic(), limit=_TAKEN_LIMIT)
