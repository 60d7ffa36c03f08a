"""How well the balancer of a node is, by what it answers and by its silence."""

from dataclasses import replace

import pytest

from mailweir.ha.machine.grace import Answer, Grace

GOOD = Answer(
    pid=1,
    listening=True,
    ending=False,
    workers_alive=True,
    sessions=3,
    servers=2,
    up=2,
    pools_down=(),
    paused="",
    generation=4,
    digest=b"12345678",
)
# A new process that answers before it has a listener.
BEGINS = replace(GOOD, pid=2, listening=False, workers_alive=False, sessions=0)


def test_nobody_answers_yet() -> None:
    health = Grace(5.0, 10.0).silent(0.0, gone=True, kept=False)
    assert (health.ok, health.why) == (False, "`mailweir run` doesn't run on this node")


def test_it_serves() -> None:
    health = Grace(5.0, 10.0).answered(GOOD, 99.0)
    assert (health.ok, health.why, health.penalty, health.up) == (True, "", 0, 2)
    assert (health.config_digest, health.generation, health.sessions) == (b"12345678", 4, 3)


def test_a_pool_without_a_server() -> None:
    health = Grace(5.0, 10.0).answered(replace(GOOD, up=1, pools_down=("farm",)), 99.0)
    assert (health.ok, health.penalty) == (True, 50)
    assert health.why == "no server of farm is up"


def test_what_keeps_it_from_serving() -> None:
    grace = Grace(5.0, 10.0)
    for answer, why in (
        (replace(GOOD, workers_alive=False), "no worker of `mailweir run` moves"),
        (replace(GOOD, listening=False), "`mailweir run` has no listener yet"),
    ):
        health = grace.answered(answer, 99.0)
        assert (health.ok, health.why) == (False, why)


def test_one_that_drains_has_a_handover_to_be_back() -> None:
    grace = Grace(5.0, 10.0)
    grace.answered(GOOD, 99.0)
    ends = replace(GOOD, ending=True)
    health = grace.answered(ends, 100.0)
    assert (health.ok, health.away, health.sessions) == (True, True, 3)
    assert health.why == (
        "`mailweir run` drains and takes no new sessions; it has 10s (handover) to come back"
    )
    assert grace.answered(replace(ends, sessions=0), 104.0).ok
    # It has ended; who comes waits for the next one.
    health = grace.silent(105.0, gone=True, kept=True)
    assert (health.ok, health.away) == (True, True)
    assert health.why == "`mailweir run` doesn't answer; it has 10s (handover) to come back"
    assert grace.answered(BEGINS, 109.0).ok
    health = grace.answered(replace(GOOD, pid=2), 109.9)
    assert (health.ok, health.away, health.why) == (True, False, "")
    # That was all of it: the next one has a handover of its own.
    assert grace.answered(replace(ends, pid=2), 111.0).ok


def test_one_that_drains_for_longer_does_not_serve() -> None:
    grace = Grace(5.0, 10.0)
    grace.answered(GOOD, 99.0)
    assert grace.answered(replace(GOOD, ending=True), 100.0).ok
    health = grace.answered(replace(GOOD, ending=True), 110.0)
    assert (health.ok, health.away, health.sessions) == (False, True, 3)
    assert health.why == "`mailweir run` drains and takes no new sessions"


@pytest.mark.parametrize("sessions", [0, 3])
def test_one_that_was_stopped_is_not_waited_for(sessions: int) -> None:
    """Nobody keeps its sockets: who comes is refused. Its last sessions end with it: there may be
    none to tell that of."""
    grace = Grace(5.0, 10.0)
    grace.answered(GOOD, 99.0)
    grace.answered(replace(GOOD, ending=True, sessions=sessions), 100.0)
    health = grace.silent(100.2, gone=True, kept=False)
    assert (health.ok, health.away, health.sessions) == (False, False, 0)
    assert health.why == "`mailweir run` has ended, and nobody keeps its listening sockets"


def test_one_that_was_killed_is_waited_for_where_its_clients_wait() -> None:
    grace = Grace(5.0, 10.0)
    grace.answered(replace(GOOD, sessions=0), 99.0)
    assert grace.silent(100.0, gone=True, kept=True).ok
    assert not grace.silent(105.0, gone=True, kept=True).ok


def test_a_pause_is_told() -> None:
    health = Grace(5.0, 10.0).answered(replace(GOOD, paused="by root"), 1.0)
    assert (health.ok, health.paused, health.penalty) == (True, "by root", 0)


def test_it_is_away_for_a_moment() -> None:
    grace = Grace(5.0, 10.0)
    grace.answered(GOOD, 99.0)
    health = grace.silent(100.0, gone=True, kept=False)
    assert (health.ok, health.sessions) == (True, 3)
    assert health.why == "`mailweir run` doesn't answer; it has 5s (run_grace) to come back"
    assert grace.silent(104.9, gone=True, kept=False).ok
    health = grace.silent(105.0, gone=True, kept=False)
    assert not health.ok
    assert health.why == "`mailweir run` hasn't answered for 5 s, longer than run_grace"
    assert not grace.silent(106.0, gone=True, kept=False).ok
    assert grace.answered(GOOD, 99.0).ok


def test_the_grace_begins_anew() -> None:
    grace = Grace(5.0, 10.0)
    grace.answered(GOOD, 99.0)
    grace.silent(100.0, gone=False, kept=False)
    grace.answered(GOOD, 99.0)
    assert grace.silent(104.9, gone=False, kept=False).ok
    assert grace.silent(109.8, gone=False, kept=False).ok
    assert not grace.silent(109.9, gone=False, kept=False).ok


def test_nothing_would_be_lost() -> None:
    grace = Grace(5.0, 10.0)
    grace.answered(replace(GOOD, sessions=0), 99.0)
    # It may be busy: it has its time.
    assert grace.silent(100.0, gone=False, kept=False).ok
    health = grace.silent(100.2, gone=True, kept=False)
    assert (health.ok, health.why) == (False, "`mailweir run` is gone, and no session with it")


def test_the_next_process_has_the_rest_of_the_grace() -> None:
    grace = Grace(5.0, 10.0)
    grace.answered(GOOD, 99.0)
    grace.silent(100.0, gone=True, kept=False)
    assert grace.answered(BEGINS, 104.9).ok
    health = grace.answered(BEGINS, 105.0)
    assert not health.ok
    assert health.why == "`mailweir run` hasn't answered for 5 s, longer than run_grace"
    assert grace.answered(replace(GOOD, pid=2), 106.0).ok


def test_one_whose_absence_was_not_noticed() -> None:
    grace = Grace(5.0, 10.0)
    grace.answered(GOOD, 99.0)
    assert grace.answered(BEGINS, 100.0).ok
    assert not grace.answered(BEGINS, 105.0).ok


def test_the_first_process_has_none() -> None:
    health = Grace(5.0, 10.0).answered(replace(BEGINS, workers_alive=True), 1.0)
    assert (health.ok, health.why) == (False, "`mailweir run` has no listener yet")
