"""Reloads under load: no session notices, nothing leaks, no process is started."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.clients.smtpload import Sink, Smtpload
from harness.machine.proc import children, descriptors
from harness.mailweir.kernel_rig import PORT, Rig, kernel_rig, rig_configuration
from harness.mailweir.run import Tree
from harness.networks.row import CLIENT, LISTENER, SERVER, row
from harness.scale import count
from harness.waiting import LIMIT, until

_RELOADS = count(10, 100)
_PAUSE = 0.6  # seconds: a hundred reloads in a minute
_RATE = count(300, 1000)  # new sessions each second
_TURNS = 12

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


@contextmanager
def _rig(directory: Path, binary: Path, forwarding: str) -> Iterator[tuple[Rig, Sink]]:
    """Two servers that are up, and one that is down."""
    with row() as networks:
        listen = (f"{SERVER}:{PORT}", f"{SERVER}:{PORT + 1}")
        servers = Smtpload(binary, directory, networks.before("s"))
        with (
            servers.sink("servers", "--hash", listen=listen) as sink,
            kernel_rig(networks, directory, _weighted(directory, forwarding, 100, 50)) as rig,
        ):
            until(lambda: rig.balancer.server_is("b", "up"), "the other server to be up")
            yield rig, sink


@pytest.mark.timeout(300)
@pytest.mark.parametrize("forwarding", ["relay", "kernel"])
def test_reloads_go_unnoticed(
    tmp_path: Path, smtpload_binary: Path, forwarding: str, counted: Callable[[str], None]
) -> None:
    with _rig(tmp_path, smtpload_binary, forwarding) as (rig, sink):
        balancer, address = rig.balancer, (LISTENER, PORT)
        clients = Smtpload(smtpload_binary, tmp_path, rig.networks.before("c"))
        # What is made at first use is there before it is counted.
        with clients.source("first", address, "--sessions=400", "--concurrency=200") as first:
            warm = first.sent()
        idle = _settled(balancer.pid)
        generation = balancer.status()["generation"]

        limit = LIMIT + 2 * _RELOADS * _PAUSE
        options = [f"--duration={limit:g}s", f"--rate={_RATE}", "--concurrency=1000"]
        begins = time.monotonic()
        with clients.source("load", address, *options) as load:
            for number in range(1, _RELOADS + 1):
                began = time.monotonic()
                weights = 10 + number, 210 - number
                balancer.write(_weighted(tmp_path, forwarding, *weights))
                _reload(rig, generation + number)
                # The pace; nothing is waited for.
                time.sleep(max(0.0, began + _PAUSE - time.monotonic()))
            assert not load.ended
            seconds = time.monotonic() - begins
            load.stop()
            sent = load.sent()

        assert (sent.failed, sent.failures) == (0, {})
        assert balancer.metric("mailweir_config_reloads_total") == _RELOADS
        assert balancer.metric("mailweir_config_reload_failures_total") == 0
        assert (balancer.status()["pid"], children(balancer.pid)) == (balancer.pid, [])
        dead = balancer.servers()["dead"]
        assert (dead["sessions"], dead["connect_failures"]) == (0, 0)
        until(lambda: balancer.status()["sessions"] == 0, "all sessions to end")
        until(lambda: len(descriptors(balancer.pid)) <= idle, "the descriptors of before")
        paths = {line["path"] for line in balancer.session_log()}
        assert ("kernel" in paths) == (forwarding == "kernel")
        counted(
            f"{forwarding}: {_RELOADS} reloads in {seconds:.1f} s: {sent.ok} sessions ok"
            f" ({sent.ok / seconds:.0f}/s), {sent.failed} failed;"
            f" descriptors: {idle} before, {len(descriptors(balancer.pid))} after"
        )
        report = sink.report()
    assert report["messages"] == sent.acknowledged + warm.acknowledged
    assert (report["message_ids"]["duplicates"], report["message_ids"]["damaged"]) == ({}, 0)


@pytest.mark.parametrize("forwarding", ["relay", "kernel"])
def test_the_rotation_goes_on(tmp_path: Path, smtpload_binary: Path, forwarding: str) -> None:
    """Servers get sessions in turn, reloads in between or not; who is next is told before."""
    foreseen = []
    with _rig(tmp_path, smtpload_binary, forwarding) as (rig, _):
        for turn in range(_TURNS):
            config = _weighted(tmp_path, forwarding, 100, 100)
            config["listeners"]["mx"]["max_age"] = f"{turn + 1}h"
            rig.balancer.write(config)
            if turn % 3 == 0:
                _reload(rig, rig.balancer.status()["generation"] + 1)
            (at,) = json.loads(rig.balancer.command("explain", CLIENT, "--json").stdout)[
                "listeners"
            ]
            foreseen.append(at["next"])
            with rig.client() as client:
                client.expect("220")
                client.expect("221", "QUIT")
            rig.record(turn + 1)
        turns = [line["server"] for line in rig.balancer.session_log()]
    assert turns == foreseen
    assert turns in (["a", "b"] * (_TURNS // 2), ["b", "a"] * (_TURNS // 2))


def _reload(rig: Rig, generation: int) -> None:
    """Once: each of these reloads makes one generation."""
    rig.balancer.reload_by_signal()
    until(lambda: rig.balancer.status()["generation"] == generation, f"generation {generation}")


def _weighted(directory: Path, forwarding: str, a: int, b: int) -> Tree:
    config = rig_configuration(directory, forwarding=forwarding)
    config["pools"]["farm"]["servers"] = {
        "a": {"address": f"{SERVER}:{PORT}", "weight": a},
        "b": {"address": f"{SERVER}:{PORT + 1}", "weight": b},
        "dead": f"{SERVER}:{PORT + 2}",
    }
    return config


def _settled(pid: int) -> int:
    """The number of descriptors, once it stays the same between two looks."""
    seen = [-1]

    def stays() -> bool:
        seen.append(len(descriptors(pid)))
        return seen[-1] == seen[-2]

    until(stays, "descriptors to settle")
    return seen[-1]
