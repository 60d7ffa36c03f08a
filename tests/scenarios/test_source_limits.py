"""Limits by source: exact although its connections land at any of four workers, the same over
reloads, and what a dry run counts is what the limit refuses.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from harness.clients.dialogue import Address, Client
from harness.clients.sources import ABOVE_A_LIMIT, IN, answer, at_once
from harness.mailweir.kernel_rig import (
    PORT,
    Rig,
    kernel_rig,
    polite,
    rig_configuration,
    serving_there,
)
from harness.mailweir.run import Mailweir, Tree, configuration
from harness.networks.row import CLIENT, LISTENER, row
from harness.scale import count
from harness.servers.crowd import crowd
from harness.waiting import LIMIT, until
from scenarios.conftest import Start

_FLOODER, _OTHER, _EXEMPT = "127.0.5.1", "127.0.5.2", "127.0.6.1"
_NEIGHBOUR = "10.1.0.9"  # another source in the clients' network
_CONNECTIONS = 400
_BURST = 100
_INTERVAL = 0.6  # seconds, of 100/min
_SUSTAINED = count(6.0, 120.0)  # seconds
_PACE = 0.18  # seconds between two tries: about five a second
_EVENLY = count(5.0, 60.0)  # seconds
_MOST, _CALLERS = 20, 60
_RELOADS = count(5, 50)

Counted = Callable[[str], None]


@pytest.mark.parametrize("dry_run", [False, True], ids=["enforced", "dry_run"])
def test_a_rate(tmp_path: Path, start: Start, counted: Counted, dry_run: bool) -> None:
    """A flood gets its burst, and from then on one each interval; others don't notice."""
    words = ["source_rate"] if dry_run else []
    with _door(tmp_path, start, {"rate": "100/min"}, words) as balancer:
        address = balancer.address()
        began = time.monotonic()
        with at_once(address, _FLOODER, _CONNECTIONS) as (_, said):
            seconds = time.monotonic() - began
            assert answer(address, _OTHER) == IN
        refused = _above_the_rate(balancer, said, dry_run)
        passed = _CONNECTIONS - refused
        counted(f"{_CONNECTIONS} in {seconds:.2f} s: {passed} passed, {refused} above the rate")
        assert _BURST <= passed <= _BURST + 1 + seconds / _INTERVAL

        more, seconds = _try_on(address)
        refused = _above_the_rate(balancer, said + more, dry_run) - refused
        passed = more.total() - refused
        counted(
            f"then {more.total()} in {seconds:.1f} s: {passed} passed,"
            f" {passed * 60 / seconds:.1f}/min; the other source always"
        )
        if dry_run:
            # In the log is whom it would have met.
            met, above = f"{_FLOODER}:", _above_the_rate(balancer, said + more, dry_run)
            until(lambda: len(_would_have_met(balancer)) == above, "all of their lines")
            assert all(client.startswith(met) for client in _would_have_met(balancer))
        # One more or less, and what the time between two tries makes at the end.
        assert abs(passed - seconds / _INTERVAL) < 1 + 2 * _PACE / _INTERVAL


def _would_have_met(balancer: Mailweir) -> list[str]:
    lines = balancer.session_log()
    return [line["client"] for line in lines if line["would_refuse"] == ["source_rate"]]


def _above_the_rate(balancer: Mailweir, said: Counter[str], dry_run: bool) -> int:
    """How many were, whether or not that was their end."""
    if not dry_run:
        assert said.keys() <= {IN, ABOVE_A_LIMIT}
        return said[ABOVE_A_LIMIT]
    assert said.keys() == {IN}
    return _would_refuse(balancer, "source_rate")


def _try_on(address: Address) -> tuple[Counter[str], float]:
    """The flooder goes on, the other comes now and then: what it heard, and for how long."""
    said, began = Counter[str](), time.monotonic()
    while (elapsed := time.monotonic() - began) < _SUSTAINED:
        said[answer(address, _FLOODER)] += 1
        if said.total() % 10 == 0:
            # Within its own rate.
            assert answer(address, _OTHER) == IN
        # The pace; nothing is waited for.
        time.sleep(_PACE)
    return said, elapsed


def test_a_burst_of_one(tmp_path: Path, start: Start, counted: Counted) -> None:
    """One each interval and never two."""
    with _door(tmp_path, start, {"rate": "100/min", "burst": 1}) as balancer:
        address, began, moments = balancer.address(), time.monotonic(), list[float]()
        while time.monotonic() < began + _EVENLY:
            if answer(address, _FLOODER) == IN:
                moments.append(time.monotonic())
            # The pace; nothing is waited for.
            time.sleep(0.01)
    gaps = sorted(late - early for early, late in pairwise(moments))
    median = gaps[len(gaps) // 2]
    counted(
        f"{len(moments)} passed in {_EVENLY:g} s, one after {gaps[0]:.3f} s at least,"
        f" {median:.3f} s in the middle, {gaps[-1]:.3f} s at most"
    )
    assert gaps[0] > _INTERVAL - 0.05
    assert median < _INTERVAL + 0.1


@pytest.mark.parametrize("dry_run", [False, True], ids=["enforced", "dry_run"])
def test_sessions_at_a_time(tmp_path: Path, start: Start, counted: Counted, dry_run: bool) -> None:
    """Exactly as many as may be, of whoever isn't exempt."""
    words = ["source_sessions"] if dry_run else []
    limits = {"sessions": _MOST, "exempt": ["127.0.6.0/24"]}
    with _door(tmp_path, start, limits, words) as balancer:
        address = balancer.address()
        with (
            at_once(address, _FLOODER, _CALLERS) as (here, said),
            at_once(address, _EXEMPT, _CALLERS) as (_, of_exempt),
        ):
            counted(f"{_CALLERS} at once: {dict(said)}; exempt: {dict(of_exempt)}")
            assert of_exempt == {IN: _CALLERS}
            above = _CALLERS - _MOST
            assert said == ({IN: _CALLERS} if dry_run else {IN: _MOST, ABOVE_A_LIMIT: above})
            assert answer(address, _OTHER) == IN
            if dry_run:
                assert _would_refuse(balancer, "source_sessions") == above
                return
            assert answer(address, _FLOODER) == ABOVE_A_LIMIT
            here[0].expect("221", "QUIT")
            here[0].close()
            until(lambda: answer(address, _FLOODER) == IN, "its place to be free")


def test_reloads_forget_nothing(tmp_path: Path, start: Start, counted: Counted) -> None:
    """What a source has and what it has used up are the same afterwards; new limits count."""
    config = _configuration(tmp_path, {"rate": "20/h", "sessions": 10})
    with ExitStack() as exits:
        _, server = exits.enter_context(crowd(tmp_path, "polite"))
        config["pools"]["farm"]["servers"]["a"]["address"] = server
        balancer = _started(start, config)
        address = balancer.address()
        _, held = exits.enter_context(at_once(address, _FLOODER, 10))
        for _ in range(20):
            assert answer(address, _OTHER) == IN
        for number in range(_RELOADS):
            config["pools"]["farm"]["servers"]["a"]["weight"] = 50 + number
            balancer.change(config)
            # The one has too many sessions, the other began too many; neither gets any in.
            for source in (_FLOODER, _OTHER):
                assert answer(address, source) == ABOVE_A_LIMIT
        assert held == {IN: 10}
        reasons = ("source_sessions", "source_rate")
        until(lambda: [balancer.ended(why) for why in reasons] == [_RELOADS] * 2, "the reasons")
        config["listeners"]["mx"]["limits"]["per_source"] = {"sessions": 12}
        balancer.change(config)
        _, more = exits.enter_context(at_once(address, _FLOODER, 5))
        assert more == {IN: 2, ABOVE_A_LIMIT: 3}
        assert answer(address, _OTHER) == IN
    counted(f"{_RELOADS} reloads: 10 sessions, and 20 begun, were the same over all of them")


@pytest.mark.needs("iproute2", "nftables", "clang")
def test_flows_count_over_a_kill(tmp_path: Path, counted: Counted) -> None:
    """In the kernel sessions are their source's as well, and those that outlive a process are in
    the next one.
    """
    config = rig_configuration(tmp_path, workers=4)
    config["listeners"]["mx"]["limits"] = {"per_source": {"sessions": 5}}
    with row() as networks, serving_there(networks, polite), ExitStack() as exits:
        networks.run("c", "ip", "address", "add", f"{_NEIGHBOUR}/24", "dev", "balancer")
        with kernel_rig(networks, tmp_path, config) as rig:
            here, said = exits.enter_context(_from(rig, CLIENT, 8))
            assert said == {IN: 5, ABOVE_A_LIMIT: 3}
            until(lambda: rig.flows() == 5, "all to be flows")
            _, others = exits.enter_context(_from(rig, _NEIGHBOUR, 2))
            assert others == {IN: 2}
            until(lambda: rig.flows() == 7, "the others to be flows")
            rig.balancer.process.kill()
        with kernel_rig(networks, tmp_path, config) as rig:
            adopted = partial(rig.balancer.metric, "mailweir_kernel_path_adopted_total")
            until(lambda: adopted() == 7, "all to be adopted")
            assert _one_more(rig, CLIENT) == ABOVE_A_LIMIT
            _, more = exits.enter_context(_from(rig, _NEIGHBOUR, 4))
            assert more == {IN: 3, ABOVE_A_LIMIT: 1}
            here[0].expect("250", "EHLO client.test")
            here[0].expect("221", "QUIT")
            here[0].close()
            until(lambda: _one_more(rig, CLIENT) == IN, "its place to be free")
            # Before the process, which would wait for them.
            exits.close()
            until(lambda: rig.flows() == 0, "all to end")
            counted("5 flows of 5 in one process were 5 in the next, and 2 of another source 2")


@contextmanager
def _from(rig: Rig, host: str, number: int) -> Iterator[tuple[list[Client], Counter[str]]]:
    """As `at_once`, in the clients' network."""
    block = at_once((LISTENER, PORT), host, number)
    yield rig.networks.inside("c", block.__enter__).result(LIMIT)
    block.__exit__(None, None, None)


def _one_more(rig: Rig, host: str) -> str:
    return rig.networks.inside("c", partial(answer, (LISTENER, PORT), host)).result(LIMIT)


def _configuration(directory: Path, limits: Tree, dry_run: list[str] | None = None) -> Tree:
    config = configuration(directory, {"a": {"address": "127.0.0.1:1"}}, workers=4)
    config["listeners"]["mx"]["limits"] = {"per_source": limits, "dry_run": dry_run or []}
    return config


def _started(start: Start, config: Tree) -> Mailweir:
    balancer = start(config)
    until(lambda: balancer.server_is("a", "up"), "the server to be up")
    assert balancer.metric("mailweir_workers") == config["workers"]
    return balancer


@contextmanager
def _door(
    directory: Path, start: Start, limits: Tree, dry_run: list[str] | None = None
) -> Iterator[Mailweir]:
    config = _configuration(directory, limits, dry_run)
    with crowd(directory, "polite") as (_, server):
        config["pools"]["farm"]["servers"]["a"]["address"] = server
        yield _started(start, config)


def _would_refuse(balancer: Mailweir, limit: str) -> int:
    name = "mailweir_listener_would_refuse_total"
    return int(balancer.metric(name, listener="mx", limit=limit))
