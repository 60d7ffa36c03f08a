"""What the log says of refusals and fallbacks: once for all that came meanwhile."""

from dataclasses import replace
from typing import cast

from mailweir.notices import notices
from mailweir.plane import Stats
from unit.fakes import (
    FakeKernelPathStats,
    FakeListenerStats,
    FakeLogStats,
    FakeRelayStats,
    FakeStats,
)

CALM = FakeStats(1, False, 0, [FakeListenerStats("mx", [], ended={"full": 2})], [])


def said(old: FakeStats, new: FakeStats) -> list[str]:
    return [event for event, _ in notices(cast(Stats, old), cast(Stats, new))]


def test_nothing_happened() -> None:
    assert said(CALM, CALM) == []


def test_everything_happened() -> None:
    listeners = [
        FakeListenerStats("mx", [], ended={"full": 5, "client_quit": 9}, accept_pauses=1),
        FakeListenerStats("new", [], ended={"no_server": 1}),
    ]
    log = FakeLogStats(dropped=3, errors=1, last_error="disk full")
    relay = FakeRelayStats(pipe_budget=8, pipe_fallbacks=2)
    new = replace(CALM, listeners=listeners, relay=relay, log=log, stuck_workers=[1])
    found = list(notices(cast(Stats, CALM), cast(Stats, new)))
    assert found[0] == (
        "sessions were refused",
        {"listener": "mx", "reason": "full", "sessions": 3},
    )
    assert [event for event, _ in found] == [
        "sessions were refused",
        "accepting paused: no descriptors or memory left",
        "sessions were refused",
        "bytes are copied for want of pipes",
        "sessions are missing from the session log",
        "a worker is stuck, its listeners are out of use",
    ]
    assert said(new, CALM) == ["a worker moves again"]


def test_somebody_takes_the_program_off() -> None:
    kernel = FakeKernelPathStats()
    old = replace(CALM, kernel_path=kernel)
    new = replace(CALM, kernel_path=replace(kernel, taken_off=2))
    assert said(old, new) == ["somebody took the kernel path's program off an interface"]
    assert said(new, new) == []


def test_splice_is_refused_once() -> None:
    budgeted = replace(CALM, relay=FakeRelayStats(pipe_budget=8))
    refused = replace(CALM, relay=FakeRelayStats(pipe_budget=0, pipe_fallbacks=9))
    assert said(budgeted, refused) == ["bytes are copied: the system refuses splice(2)"]
    later = replace(CALM, relay=FakeRelayStats(pipe_budget=0, pipe_fallbacks=99))
    assert said(refused, later) == []
