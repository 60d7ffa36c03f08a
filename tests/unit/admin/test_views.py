"""Readiness and the JSON answers."""

import json

from mailweir.admin.views import servers, status, unready
from unit.admin.situations import situation
from unit.fakes import MINIMAL, FakePlane

UNUSED = MINIMAL + "  spare:\n    servers: {x: 10.0.0.9:25}\n"


def test_ready_with_one_server_up_in_each_used_pool() -> None:
    assert unready(situation()) == []
    assert unready(situation(text=UNUSED)) == []


def test_why_not_ready() -> None:
    assert unready(situation(up="")) == ["pool farm: no server is up"]
    assert unready(situation(FakePlane())) == ["starting: the listeners aren't open yet"]
    draining = FakePlane()
    draining.drain(to_successor=False)
    assert unready(situation(draining)) == ["draining: no new sessions are taken"]


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
            "paused": None,
            "active": 1,
            "accepted": 7,
            "refused": {},
        }
    ]
    assert answer["pools"] == [
        {"name": "farm", "balance": "least_conn", "servers": 2, "up": 1, "active": 4}
    ]


def test_servers_have_their_last_check() -> None:
    a, b = json.loads(json.dumps(servers(situation())))
    assert (a["pool"], a["name"], a["state"]) == ("farm", "a", "up")
    assert (a["connect_failures"], a["greeting_failures"]) == (1, 3)
    assert a["check"] == {
        "kind": "ehlo",
        "ok": True,
        "step": "",
        "detail": "",
        "seconds": 0.0123,
        "age_seconds": 10.0,
    }
    assert b["state"] == "down"
    assert b["check"]["step"] == "greeting"
