"""Reloads under load: no session notices, nothing leaks, no process is started."""

import time
from collections.abc import Callable
from pathlib import Path

from harness.mailweir import Mailweir, Tree, configuration
from harness.proc import children, descriptors
from harness.scale import count
from harness.smtpload import FREE_PORT, Smtpload
from harness.waiting import LIMIT, until
from scenarios.conftest import Start

_RELOADS = count(10, 60)
_PAUSE = count(0.3, 1.0)  # seconds
_SECONDS = _RELOADS * _PAUSE + 3  # of load; more than the reloads take
_PARALLEL = 50


def test_reloads_go_unnoticed(
    tmp_path: Path, start: Start, smtpload: Smtpload, counted: Callable[[str], None]
) -> None:
    with smtpload.sink("servers", "--hash", listen=(FREE_PORT, FREE_PORT)) as sink:
        servers = sink.addresses
        balancer = start(_weighted(tmp_path, servers, 100, 50))
        address = balancer.address()
        # What is made at first use is there before it is counted.
        with smtpload.source("first", address, "--sessions=200", "--concurrency=50") as first:
            warm = first.sent()
        idle = _settled(balancer.pid)
        generation = balancer.status()["generation"]

        options = [f"--duration={_SECONDS}s", f"--concurrency={_PARALLEL}"]
        with smtpload.source("load", address, *options) as load:
            for number in range(1, _RELOADS + 1):
                began = time.monotonic()
                _reload(
                    balancer,
                    _weighted(tmp_path, servers, 10 + number, 100 - number),
                    generation + number,
                )
                assert balancer.status()["sessions"] > 0, "no load at this reload"
                # The pace; nothing is waited for.
                time.sleep(max(0.0, began + _PAUSE - time.monotonic()))
            sent = load.sent(LIMIT + _SECONDS)

        assert (sent.failed, sent.failures) == (0, {})
        assert balancer.metric("mailweir_config_reloads_total") == _RELOADS
        assert balancer.metric("mailweir_config_reload_failures_total") == 0
        assert (balancer.status()["pid"], children(balancer.pid)) == (balancer.pid, [])
        until(lambda: balancer.status()["sessions"] == 0, "all sessions to end")
        until(lambda: len(descriptors(balancer.pid)) <= idle, "the descriptors of before")
        counted(
            f"{_RELOADS} reloads every {_PAUSE:g} s under {_PARALLEL} parallel sessions:"
            f" {sent.ok} sessions ok, {sent.failed} failed;"
            f" descriptors: {idle} before, {len(descriptors(balancer.pid))} after"
        )

        report = sink.report()
    assert report["messages"] == sent.acknowledged + warm.acknowledged
    assert (report["message_ids"]["duplicates"], report["message_ids"]["damaged"]) == ({}, 0)


def _reload(balancer: Mailweir, config: Tree, generation: int) -> None:
    """Once: each of these reloads makes one generation."""
    balancer.write(config)
    balancer.reload_by_signal()
    until(lambda: balancer.status()["generation"] == generation, f"generation {generation}")


def _weighted(directory: Path, addresses: list[str], *weights: int) -> Tree:
    servers = {
        f"s{number}": {"address": address, "weight": weight}
        for number, (address, weight) in enumerate(zip(addresses, weights, strict=True))
    }
    return configuration(directory, servers)


def _settled(pid: int) -> int:
    """The number of descriptors, once it stays the same between two looks."""
    seen = [-1]

    def stays() -> bool:
        seen.append(len(descriptors(pid)))
        return seen[-1] == seen[-2]

    until(stays, "descriptors to settle")
    return seen[-1]
