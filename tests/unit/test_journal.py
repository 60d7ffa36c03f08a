"""The journal: what is kept, what is missed, and who follows."""

import asyncio
from contextlib import aclosing

from mailweir.journal import Journal


def say(journal: Journal, *events: str, level: str = "info") -> None:
    for event in events:
        journal.take(None, "", {"event": event, "level": level, "ts": "now"})


def names(found: list[dict[str, object]]) -> list[object]:
    return [event["event"] for event in found]


def test_the_last_ones_are_kept() -> None:
    journal = Journal(2, now=1.0)
    say(journal, "a", "b", "c")
    found = journal.since(0)
    assert names(found) == ["b", "c"]
    assert [event["id"] for event in found] == [1002, 1003]
    assert journal.missed(0, found) == 1
    assert names(journal.since(1002)) == ["c"]
    assert journal.missed(1002, journal.since(1002)) == 0
    assert journal.since(1003) == journal.since(10**12) == []


def test_debugging_is_no_event_and_values_are_plain() -> None:
    journal = Journal()
    say(journal, "checked", level="debug")
    assert journal.since(0) == []
    line = {"event": "e", "level": "info", "port": 25, "where": ("a", "b"), "none": None}
    assert journal.take(None, "", line) is line
    (event,) = journal.since(0)
    assert (event["port"], event["where"], event["none"]) == (25, "('a', 'b')", None)


def test_who_followed_an_earlier_process_misses_nothing_of_this_one() -> None:
    before = Journal(now=1.0)
    say(before, "old")
    after = Journal(now=2.0)
    say(after, "new")
    last = before.since(0)[-1]["id"]
    assert isinstance(last, int)
    assert names(after.since(last)) == ["new"]
    assert after.missed(last, after.since(last)) == 0


async def test_followers_see_each_event_once_also_from_threads() -> None:
    journal = Journal(now=1.0)
    say(journal, "a")
    seen: list[object] = []
    async with asyncio.timeout(10), aclosing(journal.follow(0)) as pieces:
        async for piece in pieces:
            seen += names(piece)
            if len(seen) == 1:
                await asyncio.to_thread(say, journal, "b", "c")
            if len(seen) == 3:
                break
    assert seen == ["a", "b", "c"]
    say(journal, "nobody follows any more")
