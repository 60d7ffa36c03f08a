"""A server that passes its checks and spoils sessions gets no new ones for a while; what all of a
pool do takes none out.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.clients.smtpload import Smtpload
from harness.mailweir.run import Mailweir, Tree, configuration
from harness.programs.alerts import fired
from harness.scale import count
from harness.servers.scripted import Handle, Stream, serving
from harness.waiting import LIMIT, until
from scenarios.conftest import Start

# It accepts and closes: a server that does that passes a check by `tcp`.
_CHECK = {"kind": "tcp", "every": "500ms", "fast": "100ms"}
_WITHIN = 10.0  # seconds of load
_APART = 60.0  # seconds between two ejections of a server
_FAILING_AFTER = 20.0  # seconds
_A = {"pool": "farm", "server": "a"}
_CHECKS = "mailweir_check_failures_total"
_SPOILED = "mailweir_server_spoiled_sessions_total"

Counted = Callable[[str], None]


@pytest.mark.needs("prometheus")
@pytest.mark.alone("measures how soon a server is ejected under load")
def test_one_of_four_that_refuses_a_tenth(
    tmp_path: Path, start: Start, smtpload: Smtpload, counted: Counted
) -> None:
    with ExitStack() as exits:
        sinks = {name: exits.enter_context(smtpload.sink(name)) for name in "abc"}
        sinks["d"] = exits.enter_context(smtpload.sink("d", "--refuse-every=10"))
        where = {name: sink.addresses[0] for name, sink in sinks.items()}
        # Its checks are sessions too: those that it refuses are never three in a row.
        balancer = start(_configuration(tmp_path, where, check={"every": "1s"}))
        until(lambda: _states(balancer) == ["up"] * 4, "all of them")
        began = time.monotonic()
        options = ["--rate=200", "--duration=1000m", "--concurrency=50"]
        with smtpload.source("clients", balancer.address(), *options) as source:
            until(lambda: _states(balancer)[3] == "ejected", "the ejection", limit=_WITHIN + LIMIT)
            took = time.monotonic() - began
            row = balancer.servers()["d"]
            _is_told(balancer, row["ejected"]["reason"], tmp_path)
            sessions, accepted = row["sessions"], _accepted(balancer)
            until(lambda: _accepted(balancer) >= accepted + 400, "two seconds more of them")
            source.stop()
            sent = source.sent()
        counted(
            f"one of four that says 554 to a tenth of its sessions, 200 a second: ejected after"
            f" {took:.1f} s ({row['ejected']['reason']}); {sent.ok} sessions, {sent.failed} failed"
        )
        assert took <= _WITHIN
        assert sent.failed == 0, "nobody noticed"
        assert _states(balancer) == ["up", "up", "up", "ejected"]
        assert balancer.servers()["d"]["sessions"] - sessions <= 50, "those that were under way"
        assert _ejections(balancer) == ["farm/d"]

        # A reload keeps it out, an operator's word ends that.
        balancer.change(_configuration(tmp_path, where, check={"every": "2s"}))
        assert balancer.server_is("d", "ejected")
        assert balancer.command("ready", "farm/d").returncode == 0
        assert balancer.server_is("d", "up")


def _accepted(balancer: Mailweir) -> int:
    return int(balancer.status()["listeners"][0]["accepted"])


def test_a_server_that_accepts_and_closes(tmp_path: Path, start: Start) -> None:
    with _farm(tmp_path, start, closing="a", base="1s") as balancer:
        _come_until_spoiled(balancer, 5)
        until(lambda: _states(balancer)[0] == "ejected", "the ejection")
        ejected = balancer.servers()["a"]["ejected"]
        assert (ejected["reason"], ejected["times"]) == ("5 sessions failed in a row", 1)
        # Its time is over, and it passes a check: it comes back as one that was down.
        until(lambda: _states(balancer)[0] == "up", "it to come back")
        assert balancer.servers()["a"]["ramp"] < 0.5
        assert _logged(balancer, "server used again") == 1
        assert 'reason="its time is over, and it passed a check"' in balancer.process.err


def test_it_comes_back_by_a_check_alone(tmp_path: Path, start: Start) -> None:
    with ExitStack() as exits:
        bad = exits.enter_context(ExitStack())
        others = {name: exits.enter_context(serving(_serves)) for name in "bcd"}
        where = {"a": bad.enter_context(serving(_closes)), **others}
        balancer = exits.enter_context(_started(tmp_path, start, where, base="1s"))
        host, _, port = where["a"].rpartition(":")
        _come_until_spoiled(balancer, 5)
        until(lambda: _states(balancer)[0] == "ejected", "the ejection")
        bad.close()
        until(lambda: _states(balancer)[0] == "down", "its checks to fail")
        # Long behind the time that it was to be out.
        until(lambda: balancer.metric(_CHECKS, **_A, step="connect") >= 10, "its checks to go on")
        assert _logged(balancer, "server used again") == 0
        assert _logged(balancer, "ejection is over") == 1
        exits.enter_context(serving(_serves, (host, int(port))))
        until(lambda: _states(balancer)[0] == "up", "it to come back")


def test_one_that_never_gets_well_is_ejected_once_a_minute(
    tmp_path: Path, start: Start, counted: Counted
) -> None:
    """It comes back after a second, and again; it is bad all along."""
    lasts = count(15.0, 150.0)
    with _farm(tmp_path, start, closing="a", base="1s") as balancer:
        _come(balancer, lasts)
        at = [_seconds(line) for line in _lines(balancer, "server ejected")]
        apart = [later - earlier for earlier, later in pairwise(at)]
        counted(f"in {lasts:.0f} s: {len(at)} ejections, {[f'{one:.0f}' for one in apart]} s apart")
        assert 1 <= len(at) <= 1 + lasts // _APART
        assert all(one >= _APART - 0.1 for one in apart)
        assert set(_ejections(balancer)) == {"farm/a"}


@pytest.mark.needs("prometheus")
def test_all_of_them_spoil_sessions(tmp_path: Path, start: Start, counted: Counted) -> None:
    """None is better than the others: they serve on, and whoever looks is told."""
    with _farm(tmp_path, start, sometimes="abcd") as balancer:
        greeted = _come(balancer, _FAILING_AFTER + 5)
        failing = balancer.metric("mailweir_pool_failing_servers", pool="farm")
        counted(f"all four close every other session: {sum(greeted)} of {len(greeted)} greeted")
        assert failing == 4
        assert _states(balancer) == ["up"] * 4
        assert sum(greeted) > 0.8 * len(greeted), "each that is refused by one asks another"
        assert _ejections(balancer) == []
        assert _logged(balancer, "servers fail sessions and are used all the same") == 1
        said = "pool farm: a, b, c, d fail sessions, and are used all the same"
        assert said in balancer.command("status").stdout
        assert said in balancer.page("/")
        assert "MailweirServersFail" in _alerts(balancer, tmp_path)


def test_no_more_than_half_are_ejected(tmp_path: Path, start: Start) -> None:
    """Three of four do nothing but close: one of these is used on."""
    with _farm(tmp_path, start, closing="abc") as balancer:
        greeted = _come(balancer, _FAILING_AFTER + 5)
        states = _states(balancer)
        assert (sorted(states), states[3]) == (["ejected", "ejected", "up", "up"], "up")
        assert balancer.metric("mailweir_pool_failing_servers", pool="farm") == 1
        assert balancer.metric("mailweir_pool_panic", pool="farm") == 0
        assert all(greeted)


def test_the_last_one_is_never_ejected(tmp_path: Path, start: Start) -> None:
    """And one that is ejected is wanted once the others are down."""
    with ExitStack() as exits:
        good = exits.enter_context(ExitStack())
        where = {
            "a": exits.enter_context(serving(_closes)),
            "b": good.enter_context(serving(_serves)),
        }
        balancer = exits.enter_context(_started(tmp_path, start, where))
        _come_until_spoiled(balancer, 5)
        until(lambda: _states(balancer) == ["ejected", "up"], "the ejection")
        good.close()
        until(lambda: _states(balancer) == ["up", "down"], "the other to be used")
        again = 'reason="too few others are up"'
        until(lambda: again in balancer.process.err, "the end of the ejection to be told")


def _is_told(balancer: Mailweir, reason: str, folder: Path) -> None:
    """Wherever somebody looks."""
    table = balancer.command("servers").stdout
    assert f"ejected ({reason}; for another " in table
    assert f"farm/d at {balancer.servers()['d']['address']}: ejected ({reason}" in (
        balancer.command("servers", "farm/d").stdout
    )
    assert f"ejected: {reason}" in balancer.command("explain", "127.0.0.1").stdout
    assert f"ejected ({reason}" in balancer.page("/")
    (line,) = _lines(balancer, "server ejected")
    assert all(part in line for part in ("farm/d", reason, "time=30s", "times=1"))
    state = {"pool": "farm", "server": "d", "state": "ejected"}
    assert balancer.metric("mailweir_server_state", **state) == 1
    assert balancer.metric(_SPOILED, pool="farm", server="d", reason="5xx") >= 5
    assert "MailweirServerEjected" in _alerts(balancer, folder)


def _configuration(
    directory: Path, where: Mapping[str, str], base: str = "30s", check: Tree | None = None
) -> Tree:
    config = configuration(directory, where, check=check or _CHECK)
    config["pools"]["farm"]["outlier"] = {"base": base}
    return config


@contextmanager
def _started(
    directory: Path, start: Start, where: Mapping[str, str], base: str = "30s"
) -> Iterator[Mailweir]:
    balancer = start(_configuration(directory, where, base))
    until(lambda: set(_states(balancer)) == {"up"}, "all of them")
    yield balancer


@contextmanager
def _farm(
    directory: Path, start: Start, *, closing: str = "", sometimes: str = "", base: str = "30s"
) -> Iterator[Mailweir]:
    """Four servers, of which some close each session, or every other one."""
    with ExitStack() as exits:
        where = {}
        for name in "abcd":
            handle = _every_other() if name in sometimes else _serves
            handle = _closes if name in closing else handle
            where[name] = exits.enter_context(serving(handle))
        yield exits.enter_context(_started(directory, start, where, base))


def _serves(stream: Stream) -> None:
    stream.send(b"220 mx.test ESMTP\r\n")
    for line in iter(stream.line, b""):
        leaves = line.upper().startswith(b"QUIT")
        stream.send(b"221 bye\r\n" if leaves else b"250 ok\r\n")


def _closes(_: Stream) -> None:
    return


def _every_other() -> Handle:
    turn = iter(range(10**9))

    def handle(stream: Stream) -> None:
        if next(turn) % 2:
            _serves(stream)

    return handle


def _come_until_spoiled(balancer: Mailweir, number: int) -> None:
    """Sessions one after the other; `a` spoils so many of them."""
    address = balancer.address()
    while balancer.metric(_SPOILED, reason="closed", **_A) < number:
        assert _is_greeted(address)


def _come(balancer: Mailweir, seconds: float) -> list[bool]:
    """Sessions one after the other for so long; which of them were greeted."""
    address, end = balancer.address(), time.monotonic() + seconds
    greeted = []
    while time.monotonic() < end:
        greeted.append(_is_greeted(address))
    return greeted


def _is_greeted(address: tuple[str, int]) -> bool:
    with Client(address) as client:
        said = client.line()
        if said.startswith("220"):
            client.expect("221", "QUIT")
    return said.startswith("220")


def _states(balancer: Mailweir) -> list[str]:
    return [one["state"] for one in balancer.servers().values()]


def _alerts(balancer: Mailweir, folder: Path) -> set[str]:
    return fired("mailweir.rules.yml", balancer.page("/metrics"), folder)


def _lines(balancer: Mailweir, event: str) -> list[str]:
    return [line for line in balancer.process.err.splitlines() if f'event="{event}"' in line]


def _logged(balancer: Mailweir, event: str) -> int:
    return len(_lines(balancer, event))


def _ejections(balancer: Mailweir) -> list[str]:
    """Which servers were, in order."""
    lines = _lines(balancer, "server ejected")
    return [line.partition("server=")[2].split()[0] for line in lines]


def _seconds(line: str) -> float:
    """When it was logged."""
    return datetime.fromisoformat(line.partition("ts=")[2].split()[0]).timestamp()
