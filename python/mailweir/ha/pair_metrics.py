"""What Prometheus learns of a pair: a row for each metric. Used by `admin`."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from mailweir.admin.exposition import Counter, CounterBy, Gauge, GaugeBy, Group, Table
from mailweir.ha.clock import now
from mailweir.ha.links import WITNESS_LINK, Links
from mailweir.ha.machine import judging
from mailweir.ha.machine.known import Known
from mailweir.ha.machine.wire import Refusal, State

# The reasons why a datagram isn't listened to; a copy over another link is no refusal.
_REFUSALS = [why for why in Refusal if why is not Refusal.COPY]
_OF_NODES = [state for state in State if state is not State.WITNESS]


class Seen(NamedTuple):
    """A node at one moment, on `ha.clock`."""

    known: Known
    links: Links
    at: float


class _Link(NamedTuple):
    heard: float | None
    """Seconds since; None is never."""
    sent: int
    received: int


def pair_metrics(known: Known, links: Links) -> Table[Seen]:
    """Of one node."""
    return Table(OF_PAIR, lambda: Seen(known, links, now()))


def _peer_state(seen: Seen) -> State | None:
    """What the peer says it is; None where it is silent."""
    told = seen.known.peer.message
    return told.state if told is not None and not seen.known.is_silent(seen.at) else None


def _one_of_states(now: State | None) -> dict[str, bool]:
    return {str(state): state is now for state in _OF_NODES}


def _links(seen: Seen) -> Iterable[tuple[tuple[str], _Link]]:
    """By name, the witness's where there is one."""
    known, links = seen.known, seen.links
    for number, name in [(WITNESS_LINK, "witness"), *enumerate(links.names, start=1)]:
        if number == WITNESS_LINK and not known.settings.witness:
            continue
        other = known.witness if number == WITNESS_LINK else known.peer
        last = other.link_heard_at.get(number)
        heard = None if last is None else seen.at - last
        yield (name,), _Link(heard, links.sent[number], links.received[number])


_NODE = Group[Seen, Seen](
    (),
    lambda seen: [((), seen)],
    GaugeBy(
        "mailweir_ha_state",
        "1 for what this node is.",
        "state",
        lambda seen: _one_of_states(seen.known.state),
    ),
    GaugeBy(
        "mailweir_ha_peer_state",
        "1 for what the peer says it is; 0 for all: silent.",
        "state",
        lambda seen: _one_of_states(_peer_state(seen)),
    ),
    Gauge(
        "mailweir_ha_holds", "1 where this node has the addresses.", lambda seen: seen.known.holding
    ),
    Counter(
        "mailweir_ha_takeovers", "Times that it became active.", lambda seen: seen.known.takeovers
    ),
    Gauge(
        "mailweir_ha_redundant",
        "1 where the node that stands by could take over and serve.",
        lambda seen: judging.is_redundant(seen.known, seen.at),
    ),
    Counter(
        "mailweir_ha_lost_sessions",
        "Sessions that were here when the addresses went.",
        lambda seen: seen.known.lost_sessions,
    ),
    CounterBy(
        "mailweir_ha_refused",
        "Datagrams that weren't listened to; in a flood (above 1000/s), one in 16 of them.",
        "reason",
        lambda seen: {why.value: seen.links.refused.counts[why] for why in _REFUSALS},
    ),
    GaugeBy(
        "mailweir_ha_words_only",
        "Operators' words that count at one node alone: this one, or the peer.",
        "at",
        lambda seen: {
            "this": len(seen.known.words.unshared(seen.at)),
            "peer": len(seen.known.words.missing(seen.at)),
        },
    ),
    Gauge(
        "mailweir_ha_alarms",
        "What is wrong with the pair, in number.",
        lambda seen: len(seen.known.alarms),
    ),
)
_LINKS = Group[Seen, _Link](
    ("link",),
    _links,
    Gauge(
        "mailweir_ha_link_heard_seconds", "Since the peer was heard last.", lambda link: link.heard
    ),
    Counter("mailweir_ha_sent", "Datagrams sent.", lambda link: link.sent),
    Counter("mailweir_ha_received", "Datagrams received.", lambda link: link.received),
)
OF_PAIR: tuple[Group[Seen, Any], ...] = (_NODE, _LINKS)
