"""A `mailweir run` that answers again, but has no listener yet: how long is that no fault."""

from dataclasses import replace

from mailweir.ha.machine.grace import Answer, Grace

_SERVES = Answer(
    pid=1,
    listening=True,
    ending=False,
    workers_alive=True,
    sessions=3,
    servers=2,
    up=2,
    pools_down=(),
    generation=1,
    digest=bytes(8),
)
_BEGINS = replace(_SERVES, pid=2, listening=False, workers_alive=False, sessions=0)


def test_the_next_process_has_the_rest_of_the_grace() -> None:
    grace = Grace(5.0)
    grace.answered(_SERVES, 99.0)
    grace.silent(100.0, gone=True)
    assert grace.answered(_BEGINS, 104.9).ok
    health = grace.answered(_BEGINS, 105.0)
    assert not health.ok
    assert health.why == "`mailweir run` hasn't answered for 5 s, longer than run_grace"
    assert grace.answered(replace(_SERVES, pid=2), 106.0).ok


def test_one_whose_absence_was_not_noticed() -> None:
    grace = Grace(5.0)
    grace.answered(_SERVES, 99.0)
    assert grace.answered(_BEGINS, 100.0).ok
    assert not grace.answered(_BEGINS, 105.0).ok


def test_the_first_process_has_none() -> None:
    health = Grace(5.0).answered(replace(_BEGINS, workers_alive=True), 1.0)
    assert (health.ok, health.why) == (False, "`mailweir run` has no listener yet")
