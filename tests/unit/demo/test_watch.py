"""What the balancer's answers are turned into: rows, events, a rate."""

import pytest

from mailweir.demo.watch import ServerRow, Watch, rows
from unit.demo.situations import server


def test_rows() -> None:
    unchecked = {**server("new"), "check": None}
    assert rows([server(), server("slow", state="down", failed=2), unchecked], {"flaky": 7}) == (
        ServerRow("flaky", "up", 5, 1, 7, 0, True, "ehlo ok in 12 ms"),
        ServerRow("slow", "down", 5, 1, None, 2, False, "connect: Connection refused"),
        ServerRow("new", "up", 5, 1, None, 0, False, "not yet"),
    )


def test_an_outage_is_told_once_with_the_sessions_that_met_it() -> None:
    watch = Watch()
    assert watch.look([server(failed=3)], 0.0) == []
    assert watch.look([server(failed=4)], 0.2) == []
    assert watch.look([server(state="down", failed=5)], 0.4) == [
        "checks found flaky down (connect: Connection refused);"
        " 2 sessions had met it and gone to another server"
    ]
    assert watch.look([server(state="down", failed=5)], 0.6) == []
    assert watch.look([server(failed=5)], 0.8) == ["checks found flaky up, sessions go there again"]
    assert watch.look([server(state="down", failed=6)], 1.0) == [
        "checks found flaky down (connect: Connection refused);"
        " 1 session had met it and gone to another server"
    ]


def test_other_changes() -> None:
    watch = Watch()
    watch.look([server()], 0.0)
    later_fine = {**server(), "state": "down"}
    assert watch.look([later_fine, server("new")], 0.2) == ["checks found flaky down"]
    assert watch.look([server(state="drain")], 0.4) == ["flaky is in state drain"]


def test_sessions_per_second_are_those_of_the_last_seconds() -> None:
    watch = Watch()
    assert watch.sessions_per_second == 0.0
    for second in range(20):
        watch.look([server(sessions=100 if second < 10 else 100 + 7 * (second - 10))], second)
    assert watch.sessions_per_second == pytest.approx(7.0)
    watch.look([], 20.0)
    assert watch.sessions_per_second == 0.0
