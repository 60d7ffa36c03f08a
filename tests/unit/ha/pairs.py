"""Two state machines or peers on a table: messages, and time, go where a test says."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from mailweir.ha.machine.facts import (
    Action,
    BalancerHealth,
    Command,
    Drop,
    Facts,
    Holder,
    Probe,
    Send,
    Settings,
    Take,
)
from mailweir.ha.machine.inputs import Machine
from mailweir.ha.machine.wire import WITNESS, Flag, Kind, Message, Refusal, State, Trouble

OK = BalancerHealth(ok=True, why="")
EPOCHS = {1: 0xAAAA, 2: 0xBBBB, WITNESS: 0xCCCC}
HEALTHY = Flag.DATAPLANE_OK | Flag.GATEWAY_OK | Flag.CARRIER_OK

SETTINGS = Settings(
    node="a",
    peer="b",
    number=1,
    cluster=7,
    priority=100,
    newest_key=1,
    interval=0.2,
    dead=2.0,
    lease=3.0,
    preempt=False,
    preempt_delay=60.0,
    fault_hold=10.0,
    gateways=False,
    witness=False,
    strict=False,
    fence=False,
    links=("cross", "lan"),
    pair_digest=bytes(8),
)


def settings(number: int = 1, **changed: Any) -> Settings:
    return dataclasses.replace(
        SETTINGS, node=" ab"[number], peer=" ba"[number], number=number, **changed
    )


def message(sender: int = 2, receiver: int = 1, **changed: Any) -> Message:
    """A hello of b, who stands by, to a."""
    plain: dict[str, Any] = {
        "kind": Kind.HELLO,
        "state": State.BACKUP,
        "flags": HEALTHY,
        "priority": 100,
        "configured": 100,
        "cluster": 7,
        "sender": sender,
        "receiver": receiver,
        "newest_key": 1,
        "epoch": EPOCHS[sender],
        "seq": 1,
        "echo_epoch": EPOCHS[receiver],
        "echo_seq": 1,
        "term": 0,
        "interval": 200,
        "dead": 2000,
        "lease": 3000,
        "hold": 10000,
        "up": 0,
        "servers": 0,
        "sessions": 0,
        "pair_digest": bytes(8),
        "config_digest": bytes(8),
        "generation": 0,
        "clock": 0,
        "trouble": Trouble(0),
        "parts": 0,
        "part": bytes(3),
        "part_digest": bytes(3),
    }
    return Message(**{**plain, **changed})


class Table:
    """Machine a, with b and the witness played by the test; what a asks for is kept."""

    def __init__(self, *, healthy: bool = True, **changed: Any) -> None:
        self.now = 100.0
        self.settings = settings(**changed)
        self.machine = Machine(self.settings, epoch=EPOCHS[1], now=self.now)
        self.actions: list[Action] = []
        self.seqs = {2: 0, WITNESS: 0}
        if healthy:
            self.learn(health=OK, carrier_lost="")
        self.do(self.machine.tick(self.now))

    # --- time --------------------------------------------------------------------

    def wait(self, seconds: float, *, until: State | None = None, **hello: Any) -> float:
        """Ticks when they are due; with `hello`, b sends that each interval. How long it took."""
        began, end = self.now, self.now + seconds
        says = self.now
        while self.now < end and self.state is not until:
            due = min(self.machine.deadline(), end, says if hello else end)
            self.now = max(self.now, due)
            if hello and self.now >= says:
                self.hear(**hello)
                says = self.now + self.settings.interval
            self.do(self.machine.tick(self.now))
        return self.now - began

    def stand_still(self, seconds: float) -> None:
        self.now += seconds

    # --- inputs --------------------------------------------------------------------

    def do(self, actions: Sequence[Action]) -> list[Action]:
        self.actions += actions
        return list(actions)

    def hear(self, link: int = 1, **changed: Any) -> Refusal | None:
        """Of b by default; it has heard the newest of a unless said otherwise."""
        sender = changed.get("sender", 2)
        self.seqs[sender] += 1
        fields: dict[str, Any] = {
            "seq": self.seqs[sender],
            "clock": int(self.now * 1e6),
            "echo_seq": self.machine.known.sent.seq,
            **changed,
        }
        self.seqs[sender] = fields["seq"]
        refusal, actions = self.machine.heard(message(**fields), link, self.now)
        self.do(actions)
        return refusal

    def learn(self, **facts: Any) -> None:
        self.do(self.machine.learn(self.now, Facts(**facts)))

    def answer(self, kind: type, *given: Any) -> None:
        """Tell how the newest step of this kind ended: a Probe, say, by holder and words."""
        inputs = {
            "Probe": self.machine.probed,
            "Fence": self.machine.fenced,
            "Take": self.machine.taken,
            "Drop": self.machine.dropped,
        }
        ticket = self.newest(kind).ticket
        self.do(inputs[kind.__name__](ticket, *given, self.now))  # type: ignore[operator]

    # --- what is seen ------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self.machine.known.state

    @property
    def why(self) -> str:
        return self.machine.known.why

    @property
    def alarms(self) -> dict[str, str]:
        return self.machine.known.alarms

    def newest(self, kind: type) -> Any:
        return next(one for one in reversed(self.actions) if isinstance(one, kind))

    def count(self, kind: type) -> int:
        return sum(isinstance(one, kind) for one in self.actions)

    def forget(self) -> None:
        self.actions.clear()

    def said(self, kind: Kind = Kind.HELLO, *, to_witness: bool = False) -> list[Message]:
        return [
            one.message
            for one in self.actions
            if isinstance(one, Send) and one.message.kind is kind and one.to_witness is to_witness
        ]


ACTIVE: dict[str, Any] = {"state": State.ACTIVE, "flags": HEALTHY | Flag.HOLDS, "term": 1}
STANDBY: dict[str, Any] = {"state": State.BACKUP}
SICK = BalancerHealth(ok=False, why="no worker is alive")
POOR = BalancerHealth(ok=True, why="pool farm has no server", penalty=50)


def candidate(**changed: Any) -> Table:
    """The peer was never heard."""
    table = Table(**changed)
    table.learn(gateway_answers=True)
    table.wait(10, until=State.CANDIDATE)
    assert table.state is State.CANDIDATE
    return table


def active(**changed: Any) -> Table:
    table = candidate(**changed)
    table.answer(Probe, Holder.NOBODY, "")
    table.answer(Take)
    assert table.state is State.ACTIVE
    table.forget()
    return table


def with_standby(**changed: Any) -> Table:
    """Active, and the peer stands by."""
    table = active(**changed)
    table.wait(0.5, **STANDBY)
    table.forget()
    return table


def standing_by(**changed: Any) -> Table:
    """The peer is active."""
    table = Table(**changed)
    table.wait(1, **ACTIVE)
    assert (table.state, table.why) == (State.BACKUP, "b is active")
    table.forget()
    return table


def released(table: Table) -> Table:
    assert table.state is State.RELEASING
    table.answer(Drop)
    return table


def command(table: Table, wanted: Command) -> str:
    refusal, actions = table.machine.command(wanted, table.now)
    table.do(actions)
    return refusal
