"""A pair hears what others send in its name, gets new keys, and sees the wall clock jump: nothing
comes of it. One pair lives through all of it.
"""

import hmac
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from threading import Event

import pytest

from harness.machine.wall_clock import by_clock
from harness.mailweir.run import Mailweir, Tree
from harness.networks.pair import NODES, Link, Node
from harness.pair.configuration import new_key
from harness.pair.datagrams import Heartbeat, forger, heartbeats
from harness.pair.rig import Machine, Rig, other
from harness.scale import count
from harness.waiting import until
from mailweir.ha.flood import SAMPLE
from mailweir.ha.machine.wire import Refusal

_TICKS = os.sysconf("SC_CLK_TCK")
_INTERVAL = 0.2
_CROSSED: dict[Link, Link] = {"lan": "cross", "cross": "lan"}

_random = random.Random(6)  # noqa: S311 - the same ones in every run

Sent = Sequence[tuple[bytes, Link]]


def test_what_is_old_is_no_news(pair: Rig, counted: Callable[[str], None]) -> None:
    """H9: everything that was said in a session comes again after both nodes have begun anew."""
    total = 10_000
    with heartbeats(pair.networks, "a") as heard:
        _live(pair, until_heard=lambda: len(heard) >= count(60, 10_000))
    old = list(heard)
    _restart(pair)
    with _unmoved(pair), heartbeats(pair.networks, "a") as new:
        until(lambda: len(new) > 40, "what they say now")
        ways = {way: _told(pair, [*old, *new], way, total) for way in _WAYS}
    words = ", ".join(f"{way}: {number}" for way, number in ways.items())
    counted(f"{len(old)} datagrams of earlier lives sent again ({words}), 0 changes")


def _live(rig: Rig, *, until_heard: Callable[[], bool]) -> None:
    """All that there is to say: both are active in turn, one asks for it and one releases it."""
    for _ in NODES:
        machine = rig.machines[other(rig.active())]
        code, words = machine.command("switch")
        assert code == 0, words
        rig.active()
    until(until_heard, "enough to be said", limit=1200)


def _restart(rig: Rig, before: Sequence[str] = ()) -> None:
    for machine in rig.machines.values():
        machine.ha.stop()
    for machine in rig.machines.values():
        machine.start_ha(*before)
    rig.active()


_WAYS = ("in order", "reversed", "reflected", "over the other link")


def _told(rig: Rig, heard: Sequence[Heartbeat], way: str, total: int) -> int:
    """Send it to both nodes, each what the other one has said to it; how many were refused."""
    refused = 0
    for node in NODES:
        said = [one for one in heard if one.outgoing == (node == "a")]
        if way == "reflected":
            said = [one for one in heard if one.outgoing != (node == "a")]
        what = [(one.payload, one.link) for one in said]
        if way == "reversed":
            what.reverse()
        if way == "over the other link":
            what = [(payload, _CROSSED[link]) for payload, link in what]
        refused += _send(
            rig, node, list(islice(cycle(what), total // len(NODES) // len(_WAYS) + 1))
        )
    return refused


def _send(rig: Rig, sender: Node, what: Sent, rate: float = count(8000, 900)) -> int:
    """In the name of `sender`; how many were refused, which is to be all of them.

    In a flood the kernel throws most of them away, and one in `SAMPLE` is counted.
    """
    machine = rig.machines[other(sender)]
    before = _refused(machine)
    with forger(rig.networks, sender) as one:
        one.send_all(what, rate)
    least = len(what) // count(2 * SAMPLE, 1)
    until(lambda: _refused(machine) - before >= least, f"{least} to be refused")
    return int(_refused(machine) - before)


def test_a_new_key_is_taken(pair: Rig, counted: Callable[[str], None]) -> None:
    """H11: first one node has it, then the other; then the old one goes. No hello is missed."""
    machines = pair.machines.values()
    folder = pair.machines["a"].folder.parent
    old, new = folder / "ha.key", new_key(folder / "new.key")
    strange = (Refusal.UNKNOWN_KEY, Refusal.FORGED)
    refused = [_refused(machine, *strange) for machine in machines]
    with _unmoved(pair), _silences(pair) as heard:
        for keys in ({1: str(old), 2: str(new)}, {2: str(new)}):
            for machine in machines:
                _reload(machine, partial(_set_keys, keys))
                _live_on(heard)
    assert [_refused(machine, *strange) for machine in machines] == refused
    counted(f"4 HUPs, {len(heard)} looks: the peer heard {max(heard):.3f} s ago at most, 0 changes")
    assert max(heard) <= 2 * _INTERVAL


@pytest.mark.needs("faketime")
def test_the_wall_clock_jumps(pair: Rig, tmp_path: Path, counted: Callable[[str], None]) -> None:
    """H12: by an hour, forward and back. Only stamps in the log go by it."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    jumps = ("+3600", "-3600", "+0")
    _restart(pair, by_clock(clock, at_once=False))
    with _unmoved(pair), _silences(pair) as heard:
        for jump in jumps:
            clock.write_text(jump)
            for machine in pair.machines.values():
                _until_off(machine, int(jump))
            _live_on(heard)
    _restart(pair)
    counted(f"{len(jumps)} jumps: the peer heard {max(heard):.3f} s ago at most, 0 changes")


def _until_off(machine: Machine, seconds: int) -> None:
    """Its log is stamped so much later than it is written."""

    def is_off() -> bool:
        _reload(machine)
        stamp = datetime.fromisoformat(machine.events()[-1]["ts"]).timestamp()
        return abs(stamp - time.time() - seconds) < 60

    until(is_off, "the node to see the jump")


def _reload(machine: Machine, edit: Callable[[Tree], None] = lambda _: None) -> None:
    """Have it read its file again; done when this returns."""
    before = _reloads(machine)
    machine.change(edit)
    until(lambda: _reloads(machine) > before, "the file to be read")


def _set_keys(keys: dict[int, str], ha: Tree) -> None:
    ha["keys"] = keys


def _reloads(machine: Machine) -> int:
    return sum(one["event"] == "reloaded" for one in machine.events())


@contextmanager
def _silences(rig: Rig) -> Iterator[list[float]]:
    """How long ago each node has heard its peer, looked at again and again."""
    heard: list[float] = []
    over = Event()

    def look() -> None:
        while not over.is_set():
            for machine in rig.machines.values():
                _, peer = machine.status()["nodes"]
                heard.append(peer["heard_seconds"])

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            yield heard
        finally:
            over.set()
        looking.result()


def _live_on(heard: Sequence[float]) -> None:
    """For some datagrams more."""
    until_then = time.monotonic() + 5 * _INTERVAL
    looks = len(heard) + 10
    until(lambda: time.monotonic() > until_then and len(heard) > looks, "it to live on")


@contextmanager
def _unmoved(rig: Rig) -> Iterator[None]:
    """Nothing that a node says of itself is another one at the end."""
    rig.active()
    before, began = _course(rig), time.monotonic()
    yield
    assert _course(rig) == before
    held = rig.holders.over(began)
    assert (held.moves, held.dual, held.nobody) == (0, 0, 0), held


def _course(rig: Rig) -> list[Tree]:
    """What both nodes say of what they are, and what has happened to them but for what they said of
    reloads and of datagrams that they don't listen to.
    """
    keys = ("state", "term", "takeovers", "holds", "alarms")
    told = {node: machine.status() for node, machine in rig.machines.items()}
    return [
        {key: told[node][key] for key in keys} | {"happened": _events(rig.machines[node])}
        for node in NODES
    ]


def _events(machine: Machine) -> list[str]:
    told = (f"{one['event']}: {one.get('reason')}" for one in machine.events())
    return [one for one in told if not one.startswith(("reloaded", "datagrams that aren't"))]


def _metrics(machine: Machine) -> Mailweir:
    """To ask `mailweir ha run` for its metrics."""
    return Mailweir(machine.ha, machine.file, machine.folder / "ha.sock")


def _refused(machine: Machine, *reasons: Refusal) -> float:
    """Datagrams that it hasn't listened to, whatever the reason or for these."""
    metrics, name = _metrics(machine), "mailweir_ha_refused_total"
    wanted = reasons or [why for why in Refusal if why is not Refusal.COPY]
    return sum(metrics.metric(name, reason=why.value) for why in wanted)


def test_what_is_forged_is_not_heard(pair: Rig, counted: Callable[[str], None]) -> None:
    """H10: datagrams with something wrong, from the peer's own address, many a second."""
    for target in (pair.active(), other(pair.active()))[: count(1, 2)]:
        sender, machine = other(target), pair.machines[target]
        with heartbeats(pair.networks, sender) as heard:
            until(lambda: len(heard) >= 2 * _SAMPLE, "what the peer says")
        said = [(one.payload, one.link) for one in heard if one.outgoing]
        for name, spoil in _SPOILT.items():
            what = [(spoil(payload), link) for payload, link in said]
            counted(f"to the {machine.state()} one, {name}: {_flood(pair, sender, what)}")


_SAMPLE = 20
_RATE = 10_000


def _flood(rig: Rig, sender: Node, what: Sent) -> str:
    """Many a second, for some seconds; what they cost."""
    seconds, machine = count(2, 10), rig.machines[other(sender)]
    with _unmoved(rig), forger(rig.networks, sender) as one:
        refused, lines, cpu = _refused(machine), machine.ha.err.count("\n"), _cpu(machine)
        reached = one.send_all(list(islice(cycle(what), seconds * _RATE)), _RATE)
        took = seconds * _RATE / reached
        share, told = (_cpu(machine) - cpu) / took, machine.ha.err.count("\n") - lines
        arrived = (_refused(machine) - refused) / took
    words = f"{reached:.0f}/s sent, {arrived:.0f}/s counted, CPU {share:.1%}, {told} lines"
    # How many can be sent is the machine's; the rest of it is ours.
    assert reached > count(0.3, 0.8) * _RATE, words
    assert share < 0.1, words
    assert told <= 20 * took, words
    return words


def _cpu(machine: Machine) -> float:
    """Seconds that `mailweir ha run` has had of a processor."""
    fields = Path(f"/proc/{machine.ha.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _sealed(payload: bytes, key: bytes) -> bytes:
    return payload[:-_MAC] + hmac.digest(key, payload[:-_MAC], "sha256")[:_MAC]


def _flipped(payload: bytes) -> bytes:
    """With one bit of it another one, wherever."""
    place = _random.randrange(8 * len(payload))
    flipped = int.from_bytes(payload) ^ 1 << place
    return flipped.to_bytes(len(payload))


def _of_a_stranger(payload: bytes) -> bytes:
    """As of another cluster, and with its key."""
    stranger = payload[:16] + os.urandom(4) + payload[20:]
    return _sealed(stranger, os.urandom(32))


_MAC = 16
_SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "wrong key": lambda payload: _sealed(payload, os.urandom(32)),
    "flipped bits": _flipped,
    "cut short": lambda payload: payload[: _random.randrange(len(payload))],
    "foreign cluster": _of_a_stranger,
    "sent again": lambda payload: payload,
}
