"""The answers to `mailweir status` and `servers`, as JSON."""

import json
from dataclasses import replace

from msgspec import structs

from mailweir.admin.answers.servers import servers
from mailweir.admin.answers.status import status
from mailweir.admin.readiness import panics, unready
from mailweir.health.outliers import Ejection
from mailweir.health.suspicion import EjectionCause
from mailweir.situation import Situation
from mailweir.spec import ServerKey
from mailweir.state.desired import Health, fold
from unit import figures
from unit.admin.situations import busy, situation
from unit.fakes import MINIMAL, NOTHING_SAID, ROOM, FakePlane, config


def test_ready_by_listener() -> None:
    two = MINIMAL.replace("listeners:", "listeners:\n  in: {bind: [192.0.2.1:2525], pool: other}")
    plane, text = FakePlane(), two + "  other:\n    servers: {x: 10.0.0.9:25}\n"
    health = {ServerKey("farm", "a"): Health.UP}
    plane.apply(fold(config(text), health, NOTHING_SAID, hostname="h", room=ROOM))
    found = situation(plane, text=text)
    assert unready(found) == ["pool other: no server is up"]
    assert unready(found, "mx") == []
    assert unready(found, "in") == ["pool other: no server is up"]
    ready = {
        one["name"]: one["ready"] for one in json.loads(json.dumps(status(found)))["listeners"]
    }
    assert ready == {"mx": True, "in": False}


def test_status_says_all_of_it_in_json() -> None:
    answer = json.loads(json.dumps(status(situation())))
    assert answer["ready"] is True
    assert answer["uptime_seconds"] == 100.0
    assert answer["config"]["last_load"]["message"] == "1 listener, 1 pool, 2 servers"
    assert answer["listeners"] == [
        {
            "name": "mx",
            "addresses": ["192.0.2.1:25"],
            "protocol": "smtp",
            "pool": "farm",
            "max_sessions": None,
            "paused": None,
            "ready": True,
            "reasons": [],
            "active": 1,
            "places": 1,
            "accepted": 7,
            "received_bytes": 100,
            "sent_bytes": 200,
            "accept_pauses": 0,
            "ended": {"client_closed": 6},
            "refused": {},
            "would_refuse": {},
            "sources": None,
        }
    ]
    assert (answer["panics"], answer["failing"]) == ([], [])
    assert answer["pools"] == [
        {
            "name": "farm",
            "balance": "least_conn",
            "servers": 2,
            "up": 1,
            "ejected": 0,
            "panic": False,
            "active": 4,
            "waiting": 0,
            "queued": 0,
            "queue_ends": {},
            "sticky": None,
            "overflow": None,
        }
    ]


def test_what_limits_a_queue_and_sticky_sources_do() -> None:
    answer = json.loads(json.dumps(status(busy())))
    (listener,), (pool,) = answer["listeners"], answer["pools"]
    assert listener["refused"] == {"denied": 9, "queue_timeout": 2}
    assert listener["would_refuse"] == {"source_rate": 4}
    assert listener["sources"] == {"entries": 5, "places": 8, "evicted": 3, "untracked": 1}
    assert pool["waiting"] == 6
    assert pool["sticky"]["broken"] == 2


def panicking(states: dict[str, str], *, backup: str = "", empty: str = "") -> Situation:
    """Servers of one pool by their states; `backup` is one, `empty` has no weight."""
    servers = [
        figures.server_stats(
            "farm", name, "10.0.0.1:25", 0 if name == empty else 100, state, backup=name == backup
        )
        for name, state in states.items()
    ]
    now = situation()
    stats = figures.stats(1, False, 0, [])
    return replace(now, stats=stats, read_servers=lambda: servers)


def test_panic_is_said_and_makes_nobody_unready() -> None:
    one_up = panicking({"a": "up", "b": "panic", "c": "panic", "d": "panic"})
    assert unready(one_up) == []
    assert panics(one_up) == [
        "pool farm: panic: 1 of 4 servers is up, those that are down are tried too"
    ]
    # Of these only three are meant: an operator's, a backup and one without weight aren't.
    states = {"a": "panic", "b": "panic", "c": "panic", "d": "drain", "e": "up", "f": "up"}
    others = panicking(states, backup="e", empty="f")
    assert panics(others) == [
        "pool farm: panic: 0 of 3 servers are up, those that are down are tried too"
    ]
    assert panics(panicking({"a": "up", "b": "down"})) == []
    none_up = panicking({"a": "panic", "b": "panic"})
    assert unready(none_up) == ["pool farm: no server is up"]


def test_servers_have_their_last_check() -> None:
    a, b = json.loads(json.dumps(servers(situation())))
    assert (a["pool"], a["name"], a["state"]) == ("farm", "a", "up")
    assert (a["connect_failures"], a["greeting_failures"]) == (1, 3)
    assert a["check"] == {
        "kind": "ehlo",
        "ok": True,
        "verdict": "up",
        "step": "",
        "detail": "",
        "seconds": 0.0123,
        "age_seconds": 10.0,
    }
    assert b["state"] == "down"
    assert b["check"]["step"] == "greeting"


def test_ejected_servers_and_those_that_fail_and_are_used() -> None:
    ejection = Ejection(EjectionCause.SHARE, "3 of 4 sessions failed", 40.0, 75.0, times=2)
    found = [
        figures.server_stats("farm", "a", "10.0.0.1:25", 100, "ejected"),
        figures.server_stats("farm", "b", "10.0.0.2:25", 100, "up"),
    ]
    now = replace(
        situation(),
        read_servers=lambda: found,
        ejection=lambda key: ejection if key.server == "a" else None,
        failing={"farm": ("b",), "park": ()},
    )
    a, b = servers(now)
    assert a["ejected"] == {
        "reason": "3 of 4 sessions failed",
        "times": 2,
        "left_seconds": 25.0,
        "until": 1025.0,
    }
    assert (a["by_checks"], b["ejected"]) == (None, None)
    answer = json.loads(json.dumps(status(now)))
    assert answer["pools"][0]["ejected"] == 1
    assert answer["failing"] == [
        "pool farm: b fails sessions, and is used all the same: the others are no better, or no"
        " more may be ejected"
    ]
    # What is down is shown as that.
    down = replace(now, read_servers=lambda: [structs.replace(found[0], state="down")])
    assert servers(down)[0]["ejected"] is None
