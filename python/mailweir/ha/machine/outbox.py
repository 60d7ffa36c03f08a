"""What a machine asks for, in order, and which of it is still under way. Pure.

Filled by `states`, `heard` and `commands`; `inputs` hands it out.
"""

from mailweir.ha.machine import judging
from mailweir.ha.machine.facts import Action, Drop, Fence, Probe, Say, Send, Take
from mailweir.ha.machine.known import Known
from mailweir.ha.machine.peer import Peer
from mailweir.ha.machine.wire import Kind


class Outbox:
    """Of one node. One step is awaited at a time; how an earlier one ends counts for nothing."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._out: list[Action] = []
        self._ticket = 0
        self.awaited: Action | None = None  # whose outcome is to come

    def put(self, action: Action) -> None:
        """Ask for something that has no outcome."""
        self._out.append(action)

    def say(self, level: str, event: str, reason: str) -> None:
        """A line of the log."""
        self.put(Say(level, event, reason))

    def step(self, kind: type[Probe | Fence | Take | Drop]) -> None:
        """Ask for a step, and await its outcome alone."""
        self._ticket += 1
        self.awaited = kind(self._ticket)
        self.put(self.awaited)

    def is_over(self, step: Action) -> bool:
        """Whether this is the step that is awaited; it is no longer."""
        if self.awaited != step:
            return False
        self.awaited = None
        return True

    def send(self, kind: Kind, now: float, *, times: int = 1, to_witness: bool = False) -> None:
        """To the peer, or to the witness."""
        for _ in range(times):
            leave = not to_witness and judging.gives_leave(self._known, now)
            message = self._known.message(kind, now, to_witness=to_witness, leave=leave)
            self.put(Send(message, to_witness))

    def send_words(self, now: float) -> None:
        """To the peer, of what operators have said here, as much as is due."""
        for page in self._known.words.due(now):
            self.put(Send(self._known.message(Kind.WORDS, now, words=page)))

    def say_lost_words(self, now: float) -> None:
        """At a takeover: what operators have said at the peer alone."""
        s = self._known.settings
        if lost := self._known.words.lost(s.node, s.peer, now):
            self.say("warning", "operators' words are missing", lost)

    def challenge(self, node: Peer, now: float) -> None:
        """Let a new life of another node prove itself; at most so often."""
        echo = node.challenge(now, apart=self._known.settings.interval / 4)
        if echo is not None:
            to_witness = node is self._known.witness
            message = self._known.message(Kind.HELLO, now, to_witness=to_witness, echo=echo)
            self.put(Send(message, to_witness))

    def flush(self) -> list[Action]:
        """All that was asked for since the last time."""
        out, self._out = self._out, []
        return out
