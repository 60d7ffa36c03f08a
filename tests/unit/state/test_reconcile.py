"""The smallest step, and nothing remembered that wasn't applied."""

import pytest
from structlog.testing import capture_logs

from mailweir.errors import PlaneError
from mailweir.spec import ServerKey, ServerState
from mailweir.state.desired import Health, fold
from mailweir.state.reconcile import Reconciler
from unit.fakes import MINIMAL, NOTHING_SAID, ROOM, FakePlane, config

A, B = ServerKey("farm", "a"), ServerKey("farm", "b")


def test_applies_structure_and_sets_states() -> None:
    plane = FakePlane()
    reconciler = Reconciler(plane)
    for health in ({}, {A: Health.UP}, {A: Health.UP}):
        reconciler.reconcile(fold(config(), health, NOTHING_SAID, hostname="h", room=ROOM))
        assert len(plane.applied) == 1
    assert plane.state_changes == [{A: ServerState.UP}]
    more = config(MINIMAL + "      c: 10.0.0.3:25\n")
    reconciler.reconcile(fold(more, {A: Health.UP}, NOTHING_SAID, hostname="h", room=ROOM))
    assert len(plane.applied) == 2


def test_a_refusal_leaves_what_was_applied() -> None:
    plane = FakePlane()
    reconciler = Reconciler(plane)
    first = fold(config(), {}, NOTHING_SAID, hostname="h", room=ROOM)
    reconciler.reconcile(first)
    plane.refuse = "listener mx: 192.0.2.1:25: address in use"
    with pytest.raises(PlaneError, match="address in use"):
        reconciler.reconcile(fold(config(), {}, NOTHING_SAID, hostname="other", room=ROOM))
    assert reconciler.applied == first


def test_a_panic_is_told_as_it_begins_and_ends() -> None:
    plane = FakePlane()
    reconciler = Reconciler(plane)
    with capture_logs() as lines:
        for health in (Health.UP, Health.DOWN, Health.DOWN, Health.UP):
            known = {A: health, B: health}
            reconciler.reconcile(fold(config(), known, NOTHING_SAID, hostname="h", room=ROOM))
    assert lines == [
        {
            "log_level": "warning",
            "event": "panic: servers that are down are tried too",
            "pool": "farm",
            "reason": "0 of 2 servers up",
        },
        {
            "log_level": "info",
            "event": "panic is over",
            "pool": "farm",
            "reason": "2 of 2 servers up",
        },
    ]
    assert plane.state_changes == [
        {A: ServerState.PANIC, B: ServerState.PANIC},
        {A: ServerState.UP, B: ServerState.UP},
    ]
