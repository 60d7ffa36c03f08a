"""Sessions on the kernel path by the hundred thousand, one after the other: nothing is used up."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.clients.smtpload import Smtpload
from harness.machine.proc import own_memory
from harness.mailweir.kernel_rig import PORT, Rig, kernel_rig, rig_configuration
from harness.networks.row import LISTENER, SERVER, SOURCE, row
from harness.scale import LONG, count
from harness.waiting import LIMIT, until

_SESSIONS = count(2000, 100_000)
# Each place rests for a minute: so many are taken at most.
_RATE = 900
_SOURCES = [SOURCE, "10.2.0.3", "10.2.0.4", "10.2.0.5"]
_REST = 60
# Of the process's own memory, once all is over: what allocators keep.
_MOST_MORE = 16 << 20

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


@pytest.mark.timeout(count(120, 900))
def test_nothing_is_used_up(
    tmp_path: Path, smtpload_binary: Path, counted: Callable[[str], None]
) -> None:
    config = rig_configuration(tmp_path)
    config["pools"]["farm"]["servers"]["a"] = {"address": f"{SERVER}:{PORT}", "source": _SOURCES}
    load = [f"--sessions={_SESSIONS}", "--concurrency=50", f"--rate={_RATE}"]
    with row() as networks:
        for address in _SOURCES[1:]:
            networks.run("l", "ip", "address", "add", f"{address}/24", "dev", "servers")
        servers = Smtpload(smtpload_binary, tmp_path, networks.before("s"))
        clients = Smtpload(smtpload_binary, tmp_path, networks.before("c"))
        with (
            servers.sink("sink", listen=(f"{SERVER}:{PORT}",)),
            kernel_rig(networks, tmp_path, config) as rig,
        ):
            # Behind the check, which is a connection like any other.
            rig.track()
            with clients.source("first", (LISTENER, PORT), "--sessions=200") as first:
                first.sent()
            until(lambda: rig.balancer.status()["sessions"] == 0, "the first to end")
            before = own_memory(rig.balancer.pid)
            with clients.source("load", (LISTENER, PORT), *load) as source:
                # Whoever counts and whoever records don't wait for each other.
                while not source.ended:
                    rig.flows()
                sent = source.sent(LIMIT + 2 * _SESSIONS / _RATE)
            until(lambda: rig.balancer.status()["sessions"] == 0, "all sessions to end")
            until(lambda: rig.tracked() == 0, "tracking to have forgotten all")
            handed = rig.balancer.metric("mailweir_kernel_path_hand_overs_total")
            if LONG:
                until(lambda: _places(rig) == 0, "all places to be free", limit=_REST + LIMIT)
            more = own_memory(rig.balancer.pid) - before
            places = _places(rig)
    counted(
        f"{_SESSIONS} sessions, {sent.failed} failed, {handed:.0f} handed over (200 before);"
        f" {places:.0f} places taken at the end; {more / 1024:+.0f} KB of memory"
    )
    assert (sent.ok, sent.failed) == (_SESSIONS, 0)
    assert handed == _SESSIONS + 200
    assert more < _MOST_MORE


def _places(rig: Rig) -> float:
    return rig.balancer.metric("mailweir_kernel_path_places_taken")
