"""The oracles of failover are right: figures of made-up attempts, and a real address that moves."""

import time
from pathlib import Path

import pytest

from harness.networks.pair import NODES, VIRTUAL, VIRTUAL6, pair_networks
from harness.pair.holders import Change, Holders, holders
from harness.pair.outage import Attempt, Gap, gap, longest, outage_clients_of
from harness.servers.scripted import Stream, serving_in
from harness.waiting import until

_NOBODY, _A, _BOTH = frozenset[str](), frozenset("a"), frozenset("ab")


def _greet(stream: Stream) -> None:
    stream.send(b"220 here\r\n")


def _attempts(outcomes: str) -> list[Attempt]:
    """One each second, from 0 on: `.` is greeted, `x` is not."""
    return [
        Attempt(float(at), 0.3, "ok" if one == "." else "timeout")
        for at, one in enumerate(outcomes)
    ]


def test_a_gap_lasts_to_the_first_success_after_which_none_failed() -> None:
    assert gap(_attempts("...xxx..x..."), 2.5) == Gap(3.5, 6.5, 6.0, {"timeout": 4})
    assert gap(_attempts("....xx...."), 2.5) == Gap(0.5, 3.5, 2.0, {"timeout": 2})
    assert gap(_attempts("....."), 2.5) == Gap(0.5, 0.0, 0.0, {})
    never = gap(_attempts("...xx"), 2.5)
    assert (never.gap, never.out) == (float("inf"), float("inf"))
    assert gap(_attempts("...xx..x"), 2.5, end=6.5) == Gap(2.5, 2.5, 2.0, {"timeout": 2})


def test_an_attempt_under_way_at_the_event_belongs_to_it_if_it_failed() -> None:
    assert gap(_attempts("..x.."), 2.25) == Gap(0.75, 0.75, 1.0, {"timeout": 1})
    assert gap(_attempts("..x.."), 2.5) == Gap(0.5, 0.0, 0.0, {})


def test_the_longest_gap_is_between_two_successes() -> None:
    assert longest(_attempts("..xx.x...")) == 3.0
    assert longest(_attempts("....")) == 0.0


def test_holders_add_up() -> None:
    found = Holders(_NOBODY)
    found._changes = [
        Change(0.0, _A),
        Change(2.0, _BOTH),
        Change(3.0, frozenset("b")),
        Change(5.0, _NOBODY),
        Change(6.0, frozenset("b")),
        Change(7.0, _A),
    ]
    held = found.over(1.0, 10.0)
    assert (held.dual, held.nobody, held.moves) == (1.0, 1.0, 2)
    held = found.over(5.5, 6.5)
    assert (held.dual, held.nobody, held.moves) == (0.0, 0.5, 0)


def test_an_address_that_moves_is_seen_by_both(tmp_path: Path) -> None:
    with pair_networks("test-outage") as pair:
        for node in NODES:
            pair.run(node, "sysctl", "-qw", "net.ipv4.ip_nonlocal_bind=1")
        at = (VIRTUAL, 2525)
        on_a = serving_in(pair, "a", at, _greet)
        on_b = serving_in(pair, "b", at, _greet)
        clients = outage_clients_of(tmp_path, at, pair.before("cl"))
        change = ["dev", "eth0", "valid_lft", "60", "preferred_lft", "0"]
        with on_a, on_b, holders(pair, VIRTUAL) as found, holders(pair, VIRTUAL6) as others:
            pair.run("a", "ip", "address", "add", f"{VIRTUAL}/24", *change)
            until(lambda: found.only == "a", "a to have it")
            with holders(pair, VIRTUAL) as later:
                assert later.only == "a"
            begin = time.monotonic()
            with clients as outage:
                outage.until_steady()
                pair.run("a", "ip", "address", "replace", f"{VIRTUAL}/24", *change)
                event = time.monotonic()
                pair.run("a", "ip", "address", "delete", f"{VIRTUAL}/24", "dev", "eth0")
                time.sleep(0.5)
                pair.run("b", "ip", "address", "add", f"{VIRTUAL}/24", *change)
                moved = time.monotonic()
                # Nobody announces it here: the client's kernel asks when it has had no answer.
                pair.run("cl", "ip", "neighbour", "flush", "dev", "eth0")
                outage.until_steady(moved)
            held, seen = found.over(begin), gap(outage.attempts(), event)
            assert held.moves == 1
            assert held.dual == 0
            assert 0.5 <= held.nobody <= moved - event
            assert moved - event - 0.05 <= seen.gap < moved - event + 1.0
            assert seen.failures
            assert held.nobody < longest(outage.attempts()) < seen.gap + 0.2
            assert others.over(begin).changes == (Change(begin, _NOBODY),)


@pytest.mark.parametrize("address", [f"{VIRTUAL}/24", f"{VIRTUAL6}/64"])
def test_a_lease_that_is_over_is_seen(address: str) -> None:
    with pair_networks("test-lease") as pair, holders(pair, address.partition("/")[0]) as found:
        began = time.monotonic()
        lease = ["valid_lft", "2", "preferred_lft", "0"]
        pair.run("b", "ip", "address", "add", address, "dev", "eth0", *lease)
        until(lambda: found.only == "b", "b to have it")
        until(lambda: not found.now, "its lease to be over")
        seconds = found.over(began).changes[-1].at - began
        print(f"{address}: a lease of 2 s was over after {seconds:.2f} s")
        assert seconds >= 1.9
