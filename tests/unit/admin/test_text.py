"""The command line's tables, from the very answers that the routes give."""

import json

from mailweir.admin import text
from mailweir.admin.views import servers, status
from mailweir.state.overrides import Overrides, StateWord, Word
from unit.admin.situations import situation


def test_status() -> None:
    assert (
        text.status(json.loads(json.dumps(status(situation()))))
        == """\
mailweir 1.2.3, pid 42, up 1m 40s, 2 workers
ready
0 sessions, 9000 at most
configuration /etc/mailweir/mailweir.yaml, generation 1; last load: 1 listener, 1 pool, 2 servers

LISTENER  PROTOCOL  POOL  SESSIONS  ACCEPTED  ADDRESSES
mx        smtp      farm         1         7  192.0.2.1:25

POOL  BALANCE     UP  SERVERS  SESSIONS
farm  least_conn   1        2         4
"""
    )


def test_status_that_is_not_ready() -> None:
    answer = json.loads(json.dumps(status(situation(up=""))))
    answer["config"]["last_load"] = {"ok": False, "message": "f.yaml has 1 problem(s)"}
    shown = text.status(answer)
    assert "NOT READY: pool farm: no server is up\n" in shown
    assert "last load: REFUSED: f.yaml has 1 problem(s)\n" in shown


def test_operators_words() -> None:
    said = Overrides(
        states={"farm/a": StateWord(by="anna", at=900.0, until=1600.0, state="drain")},
        node=Word(by="root", at=900.0),
    )
    now = situation(overrides=said)
    listed = text.servers({"servers": json.loads(json.dumps(servers(now)))}).splitlines()
    assert listed[0].endswith("OPERATOR")
    assert listed[1].endswith("drain by anna, for another 10m")
    assert listed[2].endswith("-")
    shown = text.status(json.loads(json.dumps(status(now))))
    assert "NOT READY: paused by root\n" in shown
    assert "operator: drain farm/a by anna, for another 10m\n" in shown
    assert "mx (paused)" in shown


def test_servers() -> None:
    answer = {"servers": json.loads(json.dumps(servers(situation())))}
    answer["servers"].append(answer["servers"][0] | {"name": "longer-name", "check": None})
    assert (
        text.servers(answer)
        == """\
SERVER            ADDRESS      STATE  WEIGHT  ACTIVE  SESSIONS  FAILED  LAST CHECK
farm/a            10.0.0.1:25  up        100       2         3       4  ehlo ok in 12 ms, 10s ago
farm/b            10.0.0.2:25  down      100       2         3       4  ehlo failed, 10s ago: \
greeting: 421 <b>busy</b>
farm/longer-name  10.0.0.1:25  up        100       2         3       4  not yet
"""
    )


def test_a_table_without_rows_is_its_head() -> None:
    assert text.table(("A", "B"), []) == "A  B\n"
