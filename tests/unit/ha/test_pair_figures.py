"""What Prometheus learns of a pair."""

import subprocess

import pytest
from prometheus_client import CollectorRegistry

from mailweir.admin.exposition import encode
from mailweir.ha.links import Links
from mailweir.ha.machine.inputs import Machine
from mailweir.ha.machine.operator_words import Said, Words
from mailweir.ha.machine.wire import Refusal
from mailweir.ha.pair_metrics import pair_metrics
from mailweir.ha.settings import settings_of
from unit.admin.scraped import known, samples, told
from unit.ha.test_links import KEYS, pair


@pytest.fixture
def registry() -> CollectorRegistry:
    machine = Machine(settings_of(pair(), "a"), epoch=5, now=0.0)
    peer = Words()
    peer.learn([Said("drain farm/x"), Said("pause")])
    machine.known.words.learn([Said("pause"), Said("deny 192.0.2.1"), Said("deny 192.0.2.2")])
    for page in peer.due(0.0):
        machine.known.words.hear(page, 0.0)
    links = Links(pair(), "a", KEYS)
    links.refused.counts[Refusal.FORGED] = 3
    machine.known.peer.link_heard_at[2] = 0.0
    made = CollectorRegistry()
    made.register(pair_metrics(machine.known, links))
    return made


def test_what_there_is(registry: CollectorRegistry) -> None:
    found = samples(encode(registry))
    expected = {
        "mailweir_ha_state{state=init}": 1,
        "mailweir_ha_state{state=active}": 0,
        "mailweir_ha_peer_state{state=active}": 0,
        "mailweir_ha_holds{}": 0,
        "mailweir_ha_takeovers_total{}": 0,
        "mailweir_ha_redundant{}": 0,
        "mailweir_ha_lost_sessions_total{}": 0,
        "mailweir_ha_words_only{at=this}": 2,
        "mailweir_ha_words_only{at=peer}": 1,
        "mailweir_ha_sent_total{link=x}": 0,
        "mailweir_ha_refused_total{reason=forged}": 3,
        # It isn't one: the copy over another link.
        "mailweir_ha_refused_total{reason=copy}": None,
        # Not heard yet.
        "mailweir_ha_link_heard_seconds{link=x}": None,
    }
    assert {name: found.get(name) for name in expected} == expected


def test_what_dashboards_know_stays(registry: CollectorRegistry) -> None:
    assert known("ha_metrics.txt") <= told(encode(registry))


@pytest.mark.needs("prometheus")
def test_promtool_has_nothing_to_say(registry: CollectorRegistry) -> None:
    text = encode(registry)
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
