"""A real Prometheus scrapes a real mailweir: what it is told is as it should be, and an alert
fires when something is wrong and is over when that is.
"""

import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.clients.dialogue import Client
from harness.mailweir.admin_ends import http_port
from harness.mailweir.run import Mailweir, Tree, configuration
from harness.programs.alerts import FOLDER, alerts_of
from harness.programs.dashboard import queries
from harness.programs.prometheus import Prometheus, prometheus
from harness.programs.promql import asked
from harness.servers.scripted import Stream, serving
from harness.waiting import until
from scenarios.conftest import Start

pytestmark = pytest.mark.needs("prometheus")

_RULES = FOLDER / "mailweir.rules.yml"
_CHECK = {"every": "500ms", "fast": "100ms", "rise": 1, "fall": 1}
# Labels whose values are closed lists.
_CLOSED = ("state", "reason", "end", "limit", "what", "kind", "verdict")


def _greet(stream: Stream) -> None:
    stream.send(b"220 mx ESMTP\r\n")
    for line in iter(stream.line, b""):
        leaves = line.upper().startswith(b"QUIT")
        stream.send(b"221 bye\r\n" if leaves else b"250 ok\r\n")
        if leaves:
            return


def _configuration(folder: Path, servers: dict[str, str]) -> Tree:
    config = configuration(folder, servers, check=_CHECK)
    config["admin"]["http"] = "127.0.0.1:0"
    config["pools"]["farm"]["slow_start"] = "0s"
    return config


def test_alerts_fire_and_are_over(
    tmp_path: Path, start: Start, counted: Callable[[str], None]
) -> None:
    """A server of two dies, then the other one; both come back; at last the process dies."""
    with ExitStack() as exits:
        a = exits.enter_context(ExitStack())
        b = exits.enter_context(ExitStack())
        servers = {"a": a.enter_context(serving(_greet)), "b": b.enter_context(serving(_greet))}
        balancer = start(_configuration(tmp_path, servers))
        until(lambda: _up(balancer) == {"a", "b"}, "both servers")
        where = {"mailweir": f"127.0.0.1:{http_port(balancer)}"}
        watcher = exits.enter_context(prometheus(tmp_path, _RULES, where))
        until(lambda: watcher.targets() == {"mailweir": "up"}, "a scrape")
        until(lambda: watcher.values("mailweir_ready") == [1], "it to be ready")
        _fires(watcher, set())
        _answers(watcher)

        a.close()
        first = _fires(watcher, {"MailweirServerDown", "MailweirPoolNotRedundant"})
        b.close()
        # By then both are tried although they are down.
        both = _fires(watcher, {"MailweirNoServerUp", "MailweirNotReady", "MailweirPoolPanic"})
        assert watcher.values("mailweir_ready") == [0]

        began = time.monotonic()
        for name, address in servers.items():
            host, _, port = address.rpartition(":")
            exits.enter_context(serving(_greet, (host, int(port))))
            until(lambda: name in _up(balancer), "the server")  # noqa: B023 - asked at once
        _fires(watcher, set())
        over = time.monotonic() - began
        counted(
            f"one server of two is dead: alerts fire after {first:.1f} s; both: {both:.1f} s; both"
            f" are back: over after {over:.1f} s (scrapes and rules each 0.2 s, `for` 0.5 s)"
        )

        # And the process itself.
        balancer.process.kill()
        _fires(watcher, {"MailweirNotScraped"})


def _fires(watcher: Prometheus, alerts: set[str]) -> float:
    """In the end, these and no others; after how many seconds."""
    began = time.monotonic()
    until(lambda: watcher.firing() == alerts, f"these alerts alone to fire: {alerts or 'none'}")
    return time.monotonic() - began


def _answers(watcher: Prometheus) -> None:
    """To every query of the dashboard, and to those at its top with a value."""
    found = {query.panel: watcher.values(query.expression) for query in queries()}
    assert found["Ready"] == [1]
    assert found["Servers up"] == [2]
    assert found["Sessions now"] == [0]
    assert found["Configuration taken"] == [1]


def _up(balancer: Mailweir) -> set[str]:
    return {name for name, one in balancer.servers().items() if one["state"] == "up"}


def test_promtool_takes_a_real_scrape(tmp_path: Path, start: Start) -> None:
    """After some sessions, with a listener that limits sources and a pool that has a queue."""
    with serving(_greet) as address:
        config = _configuration(tmp_path, {"a": address})
        config["listeners"]["mx"]["limits"] = {"sessions": 50, "per_source": {"sessions": 20}}
        farm = config["pools"]["farm"]
        farm |= {"queue": {"length": 10}, "sticky": {"by": "source"}}
        farm["servers"]["a"]["max_sessions"] = 40
        balancer = start(config)
        until(lambda: _up(balancer) == {"a"}, "the server")
        with Client(balancer.address()) as client:
            client.expect("220")
            client.expect("221", "QUIT")
        until(lambda: balancer.ended("client_quit") == 1, "the session to be counted")
        text = balancer.page("/metrics")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text.encode(), capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    _has_every_word(text)


def _has_every_word(text: str) -> None:
    """What rules and dashboard look for in closed lists is there: `queue_timeout`, say."""
    words: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            for label, value in sample.labels.items():
                words[sample.name, label].add(value)
    looked_for = 0
    for expression in _expressions():
        for selector in asked(expression).selectors:
            for label, value in selector.wanted():
                known = words[selector.metric, label]
                if label in _CLOSED and known:
                    assert value in known, f"{selector.metric}: no {label} {value}"
                    looked_for += 1
    assert looked_for > 10


def _expressions() -> list[str]:
    return [one["expr"] for one in alerts_of(_RULES)] + [one.expression for one in queries()]
