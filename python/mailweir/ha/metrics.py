"""What Prometheus learns of a pair, read anew at each scrape. Used by `admin`."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mailweir.ha.clock import now
from mailweir.ha.links import WITNESS_LINK, Links
from mailweir.ha.machine import judging
from mailweir.ha.machine.known import Known
from mailweir.ha.machine.wire import Refusal, State

# The reasons why a datagram isn't listened to; a copy over another link is no refusal.
_REFUSALS = [why for why in Refusal if why is not Refusal.COPY]
_OF_NODES = [state for state in State if state is not State.WITNESS]


class PairCollector(Collector):
    """Of one node."""

    def __init__(self, known: Known, links: Links) -> None:
        self._known = known
        self._links = links

    def collect(self) -> Iterable[Metric]:
        """All families."""
        known, links = self._known, self._links
        yield from _of_nodes(known)
        yield from _of_links(known, links)
        words = GaugeMetricFamily(
            "mailweir_ha_words_only",
            "Operators' words that count at one node alone: this one, or the peer.",
            labels=["at"],
        )
        at = now()
        words.add_metric(["this"], len(known.words.unshared(at)))
        words.add_metric(["peer"], len(known.words.missing(at)))
        yield words
        alarms = GaugeMetricFamily("mailweir_ha_alarms", "What is wrong with the pair, in number.")
        alarms.add_metric([], len(known.alarms))
        yield alarms


def _of_nodes(known: Known) -> Iterable[Metric]:
    at = now()
    told = known.peer.message
    peer = told.state if told is not None and not known.is_silent(at) else None
    for name, words, is_so in (
        ("mailweir_ha_state", "1 for what this node is.", known.state),
        ("mailweir_ha_peer_state", "1 for what the peer says it is; 0 for all: silent.", peer),
    ):
        family = GaugeMetricFamily(name, words, labels=["state"])
        for state in _OF_NODES:
            family.add_metric([str(state)], state is is_so)
        yield family
    holds = GaugeMetricFamily("mailweir_ha_holds", "1 where this node has the addresses.")
    holds.add_metric([], known.holding)
    yield holds
    takeovers = CounterMetricFamily("mailweir_ha_takeovers", "Times that it became active.")
    takeovers.add_metric([], known.takeovers)
    yield takeovers
    redundant = GaugeMetricFamily(
        "mailweir_ha_redundant", "1 where the node that stands by could take over and serve."
    )
    redundant.add_metric([], judging.is_redundant(known, at))
    yield redundant
    lost = CounterMetricFamily(
        "mailweir_ha_lost_sessions", "Sessions that were here when the addresses went."
    )
    lost.add_metric([], known.lost_sessions)
    yield lost


def _of_links(known: Known, links: Links) -> Iterable[Metric]:
    at = now()
    heard = GaugeMetricFamily(
        "mailweir_ha_link_heard_seconds", "Since the peer was heard last.", labels=["link"]
    )
    sent = CounterMetricFamily("mailweir_ha_sent", "Datagrams sent.", labels=["link"])
    received = CounterMetricFamily("mailweir_ha_received", "Datagrams received.", labels=["link"])
    for number, name in [(WITNESS_LINK, "witness"), *enumerate(links.names, start=1)]:
        if number == WITNESS_LINK and not known.settings.witness:
            continue
        last = known.peer.link_heard_at.get(number)
        if last is not None:
            heard.add_metric([name], at - last)
        sent.add_metric([name], links.sent[number])
        received.add_metric([name], links.received[number])
    refused = CounterMetricFamily(
        "mailweir_ha_refused",
        "Datagrams that weren't listened to; in a flood (above 1000/s), one in 16 of them.",
        labels=["reason"],
    )
    for why in _REFUSALS:
        refused.add_metric([why.value], links.refused.counts[why])
    return (heard, sent, received, refused)
