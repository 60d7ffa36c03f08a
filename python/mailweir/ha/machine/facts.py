"""What the state machine goes by, and what it asks for: settings, facts, actions. Plain values.

Called by `inputs`; built and carried out by `agent`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from functools import reduce
from operator import or_

from mailweir.ha.machine.operator_words import Said
from mailweir.ha.machine.wire import Message, Trouble

# Seconds between renewals of the lease: after standing still for what is left then, it may be over.
RENEWED_EVERY = 1.0


def bond(lease: float) -> float:
    """For how long whoever gives leave to be active has to keep his word (strict mode).

    Leave counts for one lease; at its very end the addresses may have been renewed for another one,
    by a process that stands still from then on; and the kernel may be late with taking them away.
    """
    return 2 * lease + 1


@dataclass(frozen=True, slots=True)
class Settings:
    """Of the configuration, what the machine goes by. Times in seconds."""

    node: str
    peer: str
    number: int  # 1 or 2, in the order of the nodes' names
    cluster: int
    priority: int
    newest_key: int
    interval: float
    dead: float
    lease: float
    preempt: bool
    preempt_delay: float
    fault_hold: float
    gateways: bool  # some are configured
    witness: bool
    strict: bool
    fence: bool
    links: tuple[str, ...]  # their names; a datagram has the place of one, from 1 on
    pair_digest: bytes
    # What `pair_digest` is made of: names of keys, with digests of their values.
    parts: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def silence(self) -> float:
        """After how long a silent peer counts as dead.

        In strict mode it can't have the addresses by then: nobody may be active beside it for a
        moment.
        """
        return max(self.dead, bond(self.lease)) if self.strict else self.dead

    @property
    def skew(self) -> float:
        """How much longer this node waits than one of the highest priority."""
        return self.interval * (255 - self.priority) / 255


@dataclass(frozen=True, slots=True)
class BalancerHealth:
    """How the balancer of this node is."""

    ok: bool = False  # it can serve: listeners, workers; or it is within its grace
    why: str = "the balancer wasn't asked yet"  # where it isn't ok, or is worse than it could be
    penalty: int = 0  # what is taken off the priority while pools have no server
    away: bool = False  # it takes no new sessions: it drains, or is gone for a moment
    paused: str = ""  # by whom all new sessions are refused, if they are
    up: int = 0
    servers: int = 0
    sessions: int = 0
    config_digest: bytes = bytes(8)
    generation: int = 0
    # What `config_digest` is made of: names of keys, with digests of their values.
    parts: Mapping[str, bytes] = field(default_factory=dict)
    words: tuple[Said, ...] | None = None  # of operators; None where it hasn't told them

    @property
    def trouble(self) -> Trouble:
        """What of it the peer is told."""
        told = (
            (Trouble.AWAY, self.away),
            (Trouble.PAUSED, bool(self.paused)),
            (Trouble.NO_SERVER, self.penalty > 0),
        )
        return reduce(or_, (trouble for trouble, is_so in told if is_so), Trouble(0))


@dataclass(frozen=True, slots=True)
class Facts:
    """What a node learns of itself; None is what isn't another one than before."""

    health: BalancerHealth | None = None
    carrier_lost: str | None = None  # in words; empty where there is one
    gateway_answers: bool | None = None
    double: str | None = None  # another machine that has this node's own address, in words; or not
    absent_links: Mapping[int, str] | None = None  # numbers of those that can't be used, and why


class Holder(Enum):
    """Who has the virtual addresses, as far as the network tells."""

    NOBODY = "nobody"
    SILENT = "silent"  # somebody answers for one, but takes no connection
    SERVING = "serving"  # somebody takes connections


class Command(StrEnum):
    """What an operator, or the service manager, asks for."""

    SWITCH = "switch"
    MAINT = "maint"
    READY = "ready"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Send:
    """Send over all links to the peer, or to the witness."""

    message: Message
    to_witness: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """Find out who has the virtual addresses, and whether a gateway answers; then `probed`."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Fence:
    """Run the fence command; then `fenced`."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Take:
    """Add the addresses, under a lease that is renewed from now on; then `taken` or `failed`."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Renew no more and remove them; then `dropped`."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the neighbours, now and some times more."""


@dataclass(frozen=True, slots=True)
class Say:
    """A line of the log, and an event."""

    level: str  # info, warning or error
    event: str
    reason: str


Action = Send | Probe | Fence | Take | Drop | Announce | Say
