"""A node of a pair stands still, or loses `mailweir ha run` alone: the address has one holder, and
whoever comes back late doesn't say that it is active.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from harness.figures import Took
from harness.machine.cgroup import Freezer, freezer
from harness.networks.pair import Node
from harness.pair.datagrams import Heartbeat, heartbeats
from harness.pair.holders import Held
from harness.pair.outage import gap
from harness.pair.rig import Rig, other
from harness.scale import count
from harness.waiting import until
from mailweir.ha.machine.wire import Kind, State

_LEASE = 3.0
# The kernel may be so late with taking an address away whose lease is over.
_LATE = 1.0
# Within this time of a change a datagram may be seen before or after it, in seconds.
_NOTED = 0.002
# So many datagrams of a node are looked at after it stood still: two seconds of them.
_ENOUGH = 20


def test_the_process_alone_is_killed(pair: Rig, counted: Callable[[str], None]) -> None:
    """H2: the kernel takes the address away at the end of its lease; until then the peer waits."""
    removals, gaps, nobody = list[float](), list[float](), list[float]()
    with pair.clients() as outage:
        for _ in range(count(1, 50)):
            active = pair.active()
            machine, peer = pair.machines[active], pair.machines[other(active)]
            killed = time.monotonic()
            machine.ha.kill()
            _until_held_by(pair, peer.name)
            outage.until_steady(time.monotonic())
            held = pair.holders.over(killed)
            removed = next(one.at for one in held.changes if active not in one.nodes)
            removals.append(removed - killed)
            gaps.append(gap(outage.attempts(), removed).gap)
            nobody.append(held.nobody)
            assert (held.moves, held.dual) == (1, 0), held
            assert any("somebody has the addresses" in str(one) for one in peer.events())
            machine.start_ha()
    counted(f"the address was gone: {Took(removals)}")
    counted(f"clients were out: {Took(gaps)}; nobody had it: {Took(nobody)}")
    assert max(removals) <= _LEASE + _LATE
    assert Took(gaps).percentile(0.99) <= 0.3


def _until_held_by(rig: Rig, node: Node) -> None:
    until(lambda: rig.holders.only == node, f"{node} to have the address")


def test_the_process_of_the_active_node_is_stopped(
    pair: Rig, counted: Callable[[str], None]
) -> None:
    """H13: whatever it says when it goes on, it isn't that it is active, if the peer is by now."""
    for seconds in _LENGTHS * count(1, 5):
        node = pair.active()
        paused = _pause(pair, node, _stopped([pair.machines[node].ha.pid]), seconds)
        counted(f"`mailweir ha run` stopped for {seconds:g} s: {_words(paused)}")
        # Sessions and clients are served meanwhile: it is for the lease to say when they aren't.
        assert paused.moves == 0 or seconds > _LEASE - _RENEWED_EVERY - _UNHEARD


def test_both_processes_of_the_active_node_are_stopped(
    pair: Rig, counted: Callable[[str], None]
) -> None:
    """H13: as the one alone: the kernel answers clients still."""
    for seconds in [_LONGEST] * count(0, 3):
        node = pair.active()
        paused = _pause(pair, node, _stopped(pair.machines[node].pids()), seconds)
        counted(f"both processes stopped for {seconds:g} s: {_words(paused)}")


def test_the_active_node_is_frozen(pair: Rig, counted: Callable[[str], None]) -> None:
    """H13: a cgroup with all that runs on it."""
    for seconds in [_LONGEST] * count(1, 3):
        node = pair.active()
        with freezer(f"pair-{os.getpid()}") as group:
            group.take(pair.machines[node].pids())
            paused = _pause(pair, node, _frozen(group), seconds)
        counted(f"the node frozen for {seconds:g} s: {_words(paused)}")


def test_the_node_that_stands_by_is_stopped(pair: Rig, counted: Callable[[str], None]) -> None:
    """H13: it reads what was said meanwhile before it decides anything."""
    node = other(pair.active())
    seconds = count(3, 10)
    paused = _pause(pair, node, _stopped([pair.machines[node].ha.pid]), seconds)
    counted(
        f"`mailweir ha run` of the one that stands by stopped for {seconds} s: {_words(paused)}"
    )
    assert paused.moves == 0
    assert paused.nobody == 0


_LENGTHS = (1.0, 1.9, 3.0, 10.0)[: count(2, 4)]
_LONGEST = count(4.5, 10.0)
_RENEWED_EVERY = 1.0
# Until a node that stands still hears the next datagram, it has stood still a bit longer.
_UNHEARD = 0.2


def _pause(
    rig: Rig, node: Node, standing_still: AbstractContextManager[None], seconds: float
) -> Held:
    """Who held the address in and after a pause of a node; it is checked what that node said."""
    with heartbeats(rig.networks, node) as heard:
        began = time.monotonic()
        with standing_still:
            time.sleep(seconds)
        resumed = time.monotonic()
        until(lambda: len(_said(heard, resumed)) >= _ENOUGH, "what it says after that")
        rig.active()
        held = rig.holders.over(began)
        said = _said(heard, resumed)
    assert held.moves <= 1, held
    assert held.dual <= _LATE, held
    # Whoever says that it is active is the one who has the address.
    for one in heard:
        if one.outgoing and one.at >= resumed and one.state is State.ACTIVE:
            then = rig.holders.over(one.at - _NOTED, one.at + _NOTED)
            holders = [change.nodes for change in then.changes]
            assert {node} in holders, (said, held)
            assert not any(other(node) in nodes for nodes in holders), (said, held)
    assert Kind.CLAIM not in [one.kind for one in heard if one.outgoing]
    return held


def _words(held: Held) -> str:
    return f"{held.moves} moves, nobody had it for {held.nobody:.2f} s, both for {held.dual:.2f} s"


def _said(heard: Sequence[Heartbeat], since: float) -> list[State]:
    return [one.state for one in heard if one.outgoing and one.at >= since]


@contextmanager
def _stopped(pids: Sequence[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def _frozen(group: Freezer) -> Iterator[None]:
    group.freeze()
    try:
        yield
    finally:
        group.thaw()
