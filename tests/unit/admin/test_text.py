"""The command line's tables, from the very answers that the routes give."""

import json

import pytest

from mailweir.admin import text
from mailweir.admin.answers.servers import server, servers
from mailweir.admin.answers.status import status
from mailweir.admin.page import render
from mailweir.admin.rates import Rates
from mailweir.config.words import HaKeeper, HaRole
from mailweir.situation import RoleTold
from mailweir.spec import ServerKey
from mailweir.state.overrides import Overrides, StateWord, Word
from unit.admin.situations import busy, situation


def test_status() -> None:
    assert (
        text.status(json.loads(json.dumps(status(situation()))))
        == """\
mailweir 1.2.3, pid 42, up 1m 40s, 2 workers
ready
0 sessions, 9000 at most
4 sessions outside the kernel, room for 9000 (20000 descriptors)
spare connections: 3 linger, 2 to servers that are late, 1000 at most of each; 1 ended at once
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


def test_status_of_one_of_a_pair() -> None:
    since = "\nhigh availability: active since 5m 0s"
    for keeper, alarms, words in (
        (HaKeeper.KEEPALIVED, 0, "(keepalived)"),
        (HaKeeper.NATIVE, 1, "(native), 1 alarm: see `mailweir ha status`"),
        (HaKeeper.NATIVE, 2, "(native), 2 alarms: see `mailweir ha status`"),
    ):
        told = RoleTold(HaRole.ACTIVE, keeper, 700.0, -250.0, alarms)
        shown = text.status(json.loads(json.dumps(status(situation(role=told)))))
        assert f"{since} {words}\n" in shown


def test_status_of_one_that_stands_by() -> None:
    told = RoleTold(HaRole.BACKUP, HaKeeper.NATIVE, 700.0, -250.0, 0)
    shown = text.status(json.loads(json.dumps(status(situation(role=told)))))
    assert "backup since 5m 0s (native), checks come 5 times as seldom\n" in shown


def test_status_of_a_busy_one() -> None:
    shown = text.status(json.loads(json.dumps(status(busy()))))
    assert (
        "pool farm has 25% of its sessions again, others the rest; overflowed so far: 7 to spare\n"
        in shown
    )
    assert (
        """\
ready
pool farm: panic: 1 of 2 servers is up, those that are down are tried too
"""
        in shown
    )
    assert (
        """\
listener mx refused 9 sessions: denied
listener mx refused 2 sessions: queue_timeout
listener mx would have refused 4 sessions, were it not for dry_run: source_rate
listener mx remembers 5 sources, 8 at most; for want of places 3 were forgotten early and \
1 sessions not counted
pool farm remembers the servers of 4 sources: 30 sessions went where they had been, 2 couldn't
"""
        in shown
    )
    assert shown.endswith(
        """\
POOL  BALANCE     UP  SERVERS  SESSIONS  WAITING
farm  least_conn   2        3         6        6
"""
    )


def test_states_of_servers() -> None:
    shown = text.servers({"servers": json.loads(json.dumps(servers(busy())))}).splitlines()
    assert [line[:49].rstrip() for line in shown] == [
        "SERVER  ADDRESS      STATE",
        "farm/a  10.0.0.1:25  up (slow start 35%)",
        "farm/b  10.0.0.2:25  up (slow start 99%, backup)",
        "farm/c  10.0.0.3:25  panic",
    ]


def test_denies_by_the_thousand_leave_status_readable() -> None:
    word = Word(by="root", at=900.0)
    denied = {f"10.0.{n // 256}.{n % 256}/32": word for n in range(5000)}
    now = situation(overrides=Overrides(paused={"mx": word}, denied=denied))
    answer = json.loads(json.dumps(status(now)))
    assert len(answer["operator"]["words"]) == 5001
    shown = [line for line in text.status(answer).splitlines() if line.startswith("operator: ")]
    assert shown[:2] == [
        "operator: pause mx by root 100s ago",
        "operator: deny 10.0.0.0/32 by root 100s ago",
    ]
    assert len(shown) == 22
    assert shown[-1] == "operator: deny 4980 others, which --json shows"


def test_operators_words() -> None:
    said = Overrides(
        states={"farm/a": StateWord(by="anna", at=900.0, until=1600.0, state="drain")},
        node=Word(by="root", behind="sudo: alice", at=900.0, why="<new> disk"),
    )
    now = situation(overrides=said)
    listed = text.servers({"servers": json.loads(json.dumps(servers(now)))}).splitlines()
    assert listed[0].endswith("OPERATOR")
    assert listed[1].endswith("drain by anna 100s ago, for another 10m")
    assert listed[2].endswith("-")
    shown = text.status(json.loads(json.dumps(status(now))))
    assert "NOT READY: paused by root (sudo: alice): <new> disk\n" in shown
    assert "operator: drain farm/a by anna 100s ago, for another 10m\n" in shown
    assert "operator: pause by root (sudo: alice) 100s ago: <new> disk\n" in shown
    on_page = render(now, Rates())
    assert "paused by root (sudo: alice): &lt;new&gt; disk" in on_page
    assert "operator: pause by root (sudo: alice) 100s ago: &lt;new&gt; disk" in on_page
    assert "<td>drain by anna 100s ago, for another 10m</td>" in on_page
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


def test_one_server() -> None:
    answer = json.loads(json.dumps(server(situation(), ServerKey("farm", "b"))))
    further = {"name": "tls", "kind": "starttls", "decides": "alarm", "health": "up"}
    further["address"] = "10.0.0.2:465"
    answer["checks"].append(
        answer["checks"][0] | further | {"alarm": "certificate ends in 3 days", "results": []}
    )
    assert (
        text.server(answer)
        == """\
farm/b at 10.0.0.2:25: down
weight 100, 2 sessions now, 3 in all

check check (ehlo): down
WHEN     VERDICT  TOOK   RESULT
10s ago  down     12 ms  greeting: 421 <b>busy</b>

check tls (starttls at 10.0.0.2:465, decides alarm): up
ALARM: certificate ends in 3 days
not made yet
"""
    )


def test_what_checks_say_of_a_state() -> None:
    about = {"backup": False, "ejected": None}
    drained = {"state": "drain", "by_checks": "disk: 452 full", "check": None, **about}
    assert text.state(drained) == "drain (disk: 452 full)"
    # What the last check says stands beside it already.
    down = {"state": "down", "by_checks": "check: refused", "check": {"ok": False}, **about}
    assert text.state(down) == "down"


@pytest.mark.parametrize(
    ("left", "times", "expected"),
    [
        (25.4, 1, "ejected (5 sessions failed in a row; for another 25s)"),
        (0.0, 3, "ejected (5 sessions failed in a row; until it passes a check)"),
        (90.0, 4, "ejected (5 sessions failed in a row; for another 1m 30s, the 4th time)"),
    ],
)
def test_how_long_a_server_is_ejected(left: float, times: int, expected: str) -> None:
    ejected = {"reason": "5 sessions failed in a row", "left_seconds": left, "times": times}
    server = {"state": "ejected", "backup": False, "by_checks": None, "ejected": ejected}
    assert text.state(server) == expected


def test_a_table_without_rows_is_its_head() -> None:
    assert text.table(("A", "B"), []) == "A  B\n"
