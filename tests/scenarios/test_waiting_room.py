"""The waiting room: while every server is full sessions wait, and are served in the order in which
they came, whichever worker they are at. Who gives up makes way.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.clients.sources import BUSY, IN, heard
from harness.machine.proc import watched_ports
from harness.mailweir.kernel_rig import Rig, kernel_rig, polite, rig_configuration, serving_there
from harness.mailweir.waiting_room import MOST, leave, told, waiting, waiting_room
from harness.networks.row import row
from harness.scale import count
from harness.waiting import until
from scenarios.conftest import Start

_CLIENTS = count(100, 1000)
_LASTS = 0.1  # seconds
_WAITERS = count(40, 150)
_GIVE_UP = count(30, 100)
_TIMEOUT = 2  # seconds

Counted = Callable[[str], None]


def test_a_crowd_is_served(tmp_path: Path, start: Start, counted: Counted) -> None:
    """Many come at once: nobody is refused, and no server has more than it may."""
    with waiting_room(tmp_path, start, {"length": _CLIENTS, "wait": "60s"}, full=False) as room:
        for one in room.servers:
            one.most = 0
        came, began = threading.Barrier(_CLIENTS), time.monotonic()

        def client(_: int) -> str:
            came.wait()
            with Client(room.address) as client:
                said = heard(client)
                if said == IN:
                    # How long a session takes; nothing is waited for.
                    time.sleep(_LASTS)
                    client.expect("221", "QUIT")
            return said

        with ThreadPoolExecutor(_CLIENTS) as pool:
            said = Counter(pool.map(client, range(_CLIENTS)))
        seconds = time.monotonic() - began
        room.is_empty()
        queued = room.balancer.metric("mailweir_pool_queued_total", pool="farm")
        counted(
            f"{_CLIENTS} at once before {2 * MOST} places: {dict(said)} in {seconds:.2f} s,"
            f" {queued:.0f} waited"
        )
        assert said == {IN: _CLIENTS}
        assert room.ended("served") == queued
        assert queued >= _CLIENTS / 2
        assert [one.most for one in room.servers] == [MOST, MOST]
        until(lambda: len(room.balancer.session_log()) == _CLIENTS, "all in the log")
        waited = [line for line in room.balancer.session_log() if line["queued_ms"] is not None]
        assert len(waited) == queued


def test_in_the_order_of_their_coming(tmp_path: Path, start: Start, counted: Counted) -> None:
    with waiting_room(tmp_path, start, {"length": 200, "wait": "60s"}) as room:
        waiters = [room.one_more(number) for number in range(1, _WAITERS + 1)]
        at = watched_ports(room.balancer.pid)
        workers = [at[client.socket.getsockname()[1]] for client in waiters]
        turns = sum(one != other for one, other in pairwise(workers))
        for number, waiter in enumerate(waiters):
            room.end_one()
            waiter.expect("220")
            assert told(waiters[number + 1 :]) == [], "nobody goes before"
            room.here.append(waiter)
        counted(
            f"{_WAITERS} waited at {len(set(workers))} of 4 workers, {turns} times at another one"
            " than who came before: served in the order of their coming"
        )
        assert len(set(workers)) > 1
        room.end_all()


def test_who_gives_up_makes_way(tmp_path: Path, start: Start, counted: Counted) -> None:
    with waiting_room(tmp_path, start, {"length": 200, "wait": "60s"}) as room:
        everybody = [room.one_more(number) for number in range(1, 2 * _GIVE_UP + 1)]
        began = time.monotonic()
        for client in everybody[::2]:
            client.close()
        until(lambda: room.waiting() == _GIVE_UP, "their places to be free")
        seconds = time.monotonic() - began
        assert room.ended("client_gone") == _GIVE_UP
        for number, waiter in enumerate(stay := everybody[1::2]):
            room.end_one()
            waiter.expect("220")
            assert told(stay[number + 1 :]) == []
            room.here.append(waiter)
        room.end_all()
        assert room.ended("served") == _GIVE_UP
        until(lambda: room.balancer.ended("client_closed") == _GIVE_UP, "them to be counted")
    counted(f"{_GIVE_UP} of {2 * _GIVE_UP} gave up: gone after {seconds * 1000:.0f} ms")


def test_the_wait_is_over(tmp_path: Path, start: Start, counted: Counted) -> None:
    """Who waited in vain hears so, and so does who finds no place in the room, at once."""
    with waiting_room(tmp_path, start, {"length": 3, "wait": f"{_TIMEOUT}s"}) as room:
        began = time.monotonic()
        waiters = [Client(room.address) for _ in range(3)]
        until(lambda: room.waiting() == 3, "them to wait")
        with Client(room.address) as another:
            assert another.line().endswith(" too many sessions, try again later")
        for waiter in waiters:
            words = waiter.line()
            assert words.startswith(BUSY)
            assert words.endswith(" all mail servers are busy, try again later")
            assert waiter.rest() == b""
            waiter.close()
        seconds = time.monotonic() - began
        assert seconds > _TIMEOUT
        until(lambda: len(room.balancer.session_log()) == 4, "them in the log")
        log = room.balancer.session_log()
        assert Counter(line["end_reason"] for line in log) == {"queue_timeout": 3, "full": 1}
        waits = [line["queued_ms"] for line in log if line["end_reason"] == "queue_timeout"]
        assert all(_TIMEOUT * 1000 <= wait < seconds * 1000 for wait in waits), waits
        assert [line["queued_ms"] for line in log if line["end_reason"] == "full"] == [None]
        assert (room.ended("timeout"), room.ended("full"), room.waiting()) == (3, 1, 0)
        metric = partial(room.balancer.metric, pool="farm")
        assert metric("mailweir_pool_queue_seconds_count") == 3
        assert metric("mailweir_pool_queue_seconds_sum") >= 3 * _TIMEOUT
        counted(f"the wait of {_TIMEOUT} s was over after {max(waits):.0f} ms at most")
        room.end_all()


@pytest.mark.needs("iproute2", "nftables", "clang")
def test_flows_make_way(tmp_path: Path) -> None:
    """A place in the kernel that gets free goes to the first who waits, which becomes a flow."""
    config = rig_configuration(tmp_path, workers=4)
    farm = config["pools"]["farm"]
    farm["servers"]["a"] = {"address": farm["servers"]["a"]["address"], "max_sessions": 3}
    farm["queue"] = {"length": 10, "wait": "60s"}
    with (
        row() as networks,
        serving_there(networks, polite),
        kernel_rig(networks, tmp_path, config) as rig,
        ExitStack() as exits,
    ):
        here = [exits.enter_context(rig.client()) for _ in range(3)]
        for client in here:
            client.expect("220")
        until(lambda: rig.flows() == 3, "all to be flows")
        waiters = []
        for number in range(1, 6):
            waiters.append(exits.enter_context(rig.client()))
            until(lambda number=number: waiting(rig.balancer) == number, "it to wait")  # type: ignore[misc]
        waiters.pop(1).close()
        until(lambda: waiting(rig.balancer) == 4, "it to be gone")
        for client, waiter in zip(here, waiters, strict=False):
            leave(client)
            waiter.expect("220")
        leave(waiters[0])
        waiters[3].expect("220")
        until(lambda: rig.flows() == 3, "all to be flows")
        for client in waiters[1:]:
            leave(client)
        _all_has_ended(rig)


def _all_has_ended(rig: Rig) -> None:
    until(lambda: len(rig.balancer.session_log()) == 8, "all in the log")
    log = rig.balancer.session_log()
    served = [line for line in log if line["server"]]
    assert {line["path"] for line in served} == {"kernel"}
    assert [line["queued_ms"] is None for line in served].count(True) == 3
    assert rig.balancer.servers()["a"]["active"] == 0
