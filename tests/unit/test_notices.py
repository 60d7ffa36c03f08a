"""What the log says of refusals and fallbacks: once for all that came meanwhile."""

from msgspec import structs

from mailweir.notices import notices
from mailweir.stats import OverflowStats, Stats
from unit import figures

CALM = figures.stats(1, False, 0, [figures.listener_stats("mx", ended={"full": 2})])


def said(old: Stats, new: Stats) -> list[str]:
    return [event for event, _ in notices(old, new)]


def test_nothing_happened() -> None:
    assert said(CALM, CALM) == []


def test_everything_happened() -> None:
    listeners = [
        figures.listener_stats("mx", ended={"full": 5, "client_quit": 9}, accept_pauses=1),
        figures.listener_stats("new", ended={"no_server": 1}),
    ]
    log = structs.replace(figures.LOG, dropped=3, errors=1, last_error="disk full")
    relay = structs.replace(figures.RELAY, pipe_budget=8, pipe_fallbacks=2)
    new = structs.replace(
        CALM, listeners=tuple(listeners), relay=relay, log=log, workers=figures.stuck(1)
    )
    found = list(notices(CALM, new))
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


def test_a_session_log_that_can_not_be_opened_anew() -> None:
    log = structs.replace(CALM.log, errors=1, last_error="/x: Is a directory (os error 21)")
    event = "the session log can't be opened or written"
    assert list(notices(CALM, structs.replace(CALM, log=log))) == [
        (event, {"reason": "/x: Is a directory (os error 21)"})
    ]


def _with(overflow: OverflowStats) -> Stats:
    return structs.replace(CALM, pools=(figures.pool_stats("farm", overflow=overflow),))


def test_a_pool_that_overflows() -> None:
    home = _with(OverflowStats("home", 1.0, 0, {}))
    full = _with(OverflowStats("home", 1.0, 0, {"spare": 3}))
    gone = _with(OverflowStats("elsewhere", 0.0, 1, {"spare": 9}))
    coming = _with(OverflowStats("coming_back", 0.5, 1, {"spare": 9}))
    again = _with(OverflowStats("home", 1.0, 1, {"spare": 9}))
    overflows = ("a pool overflows: none of its servers is up", {"pool": "farm"})
    went = "sessions went to another pool"
    over = ("a pool has its sessions again", {"pool": "farm"})
    taken = {"pool": "farm", "to": "spare"}
    assert list(notices(home, full)) == [(went, {**taken, "sessions": 3})]
    assert list(notices(full, gone)) == [overflows, (went, {**taken, "sessions": 6})]
    assert list(notices(gone, coming)) == []
    assert list(notices(coming, again)) == [over]
    # Its first server has come up.
    assert list(notices(_with(OverflowStats("elsewhere", 0.0, 0, {})), home)) == []
    # Begun and over between two looks.
    assert list(notices(full, again)) == [overflows, (went, {**taken, "sessions": 6}), over]


def test_limits_by_source() -> None:
    old = figures.listener_stats("mx", would_refuse={"access": 1}, sources=figures.SOURCES)
    sources = structs.replace(figures.SOURCES, places=8, evicted=2, untracked=3)
    new = structs.replace(old, would_refuse={"access": 5, "sessions": 0}, sources=sources)
    ended = new.ended | {"denied": 4, "source_rate": 3, "queue_timeout": 2}
    before, after = structs.replace(CALM, listeners=(old,)), structs.replace(CALM, listeners=(new,))
    assert list(notices(before, after)) == [
        (
            "sessions would have been refused, were it not for dry_run",
            {"listener": "mx", "limit": "access", "sessions": 4},
        ),
        (
            "sources are forgotten early: more come than are remembered",
            {"listener": "mx", "places": 8, "sources": 2},
        ),
        (
            "sessions aren't counted to their sources: every place is taken",
            {"listener": "mx", "places": 8, "sessions": 3},
        ),
    ]
    assert said(after, after) == []
    refusing = structs.replace(after, listeners=(structs.replace(new, ended=ended),))
    found = notices(after, refusing)
    assert [fields["reason"] for _, fields in found] == ["denied", "source_rate", "queue_timeout"]


def test_somebody_takes_the_program_off() -> None:
    kernel = figures.KERNEL_PATH
    old = structs.replace(CALM, kernel_path=kernel)
    new = structs.replace(CALM, kernel_path=structs.replace(kernel, taken_off=2))
    assert said(old, new) == ["somebody took the kernel path's program off an interface"]
    assert said(new, new) == []


def test_what_is_done_to_the_kernel_path_is_told_once() -> None:
    kernel = figures.KERNEL_PATH
    old = structs.replace(CALM, kernel_path=kernel)
    changed = structs.replace(
        kernel,
        unpinned=1,
        ends_with_process="it can't be pinned: no room",
        not_at={"eth7": "no memory"},
        refusals={"nat": 3},
    )
    new = structs.replace(CALM, kernel_path=changed)
    expected = [
        "somebody removed the kernel path's pins",
        "flows end with the process",
        "the kernel path's program can't be attached",
        "sessions take the relay: this host translates their addresses",
    ]
    assert said(old, new) == expected
    assert said(CALM, new) == expected, "the kernel path is wanted since a reload"
    later = structs.replace(CALM, kernel_path=structs.replace(changed, refusals={"nat": 9}))
    assert said(new, later) == []


def test_what_another_version_left() -> None:
    kernel = figures.KERNEL_PATH
    there = structs.replace(CALM, kernel_path=structs.replace(kernel, earlier=4))
    gone = structs.replace(CALM, kernel_path=kernel)
    assert said(CALM, there) == ["sessions of another version go on by themselves"]
    assert said(there, there) == []
    assert said(there, gone) == ["sessions of another version have ended"]


def test_tables_of_an_earlier_process_are_too_small() -> None:
    few = structs.replace(CALM, kernel_path=structs.replace(figures.KERNEL_PATH, wanted_flows=900))
    assert said(CALM, few) == [
        "the kernel path has fewer places than max_flows, those that its flows began with"
    ]
    assert said(few, few) == []


def test_splice_is_refused_once() -> None:
    budgeted = structs.replace(CALM, relay=structs.replace(figures.RELAY, pipe_budget=8))
    refused = structs.replace(
        CALM, relay=structs.replace(figures.RELAY, pipe_budget=0, pipe_fallbacks=9)
    )
    assert said(budgeted, refused) == ["bytes are copied: the system refuses splice(2)"]
    later = structs.replace(
        CALM, relay=structs.replace(figures.RELAY, pipe_budget=0, pipe_fallbacks=99)
    )
    assert said(refused, later) == []
