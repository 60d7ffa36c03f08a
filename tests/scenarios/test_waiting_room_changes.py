"""What changes while sessions wait: limits, servers, what operators say. Nobody is forgotten, and
the order stays.
"""

from pathlib import Path

from harness.clients.dialogue import Client
from harness.clients.sources import BUSY, heard
from harness.mailweir.waiting_room import MOST, WaitingRoom, leave, told, waiting_room
from harness.waiting import until
from scenarios.conftest import Start

_QUEUE = {"length": 200, "wait": "60s"}
_WAITERS = 12
_SPAMMER, _REGULAR = "127.0.9.1", "127.0.12.1"


def test_a_reload_makes_room(tmp_path: Path, start: Start) -> None:
    """As many go on at once as there is more room, those that came first; then the others, also
    without a queue.
    """
    with waiting_room(tmp_path, start, _QUEUE) as room:
        waiters = _all_wait(room)
        servers = room.config["pools"]["farm"]["servers"]
        servers["a"]["weight"] = 50
        room.balancer.change(room.config)
        assert (room.waiting(), told(waiters)) == (_WAITERS, [])
        servers["b"]["max_sessions"] = MOST + 4
        room.balancer.change(room.config)
        until(lambda: room.waiting() == _WAITERS - 4, "four to go on")
        for waiter in waiters[:4]:
            waiter.expect("220")
        assert told(waiters[4:]) == []
        room.config["pools"]["farm"]["queue"] = "none"
        room.balancer.change(room.config)
        with Client(room.address) as another:
            assert heard(another) == BUSY
        for number, waiter in enumerate(waiters[4:], 5):
            room.end_one()
            waiter.expect("220")
            assert told(waiters[number:]) == []
        room.here += waiters
        room.end_all()
        assert room.ended("served") == _WAITERS


def test_a_server_comes_back(tmp_path: Path, start: Start) -> None:
    """Those who wait are served as it comes, not only as sessions end."""
    with waiting_room(tmp_path, start, _QUEUE, full=False) as room:
        _say(room, "maint", "farm/b")
        for _ in range(MOST):
            room.one_more(0)
        waiters = _all_wait(room)
        _say(room, "ready", "farm/b")
        for waiter in waiters[:MOST]:
            waiter.expect("220")
        assert told(waiters[MOST:]) == []
        room.here += waiters[:MOST]
        for waiter in waiters[MOST:]:
            room.end_one()
            waiter.expect("220")
        room.here += waiters[MOST:]
        room.end_all()


def test_who_is_denied_waits_no_longer(tmp_path: Path, start: Start) -> None:
    """`deny --end` ends sessions that wait as well, and others go on to their places."""
    with waiting_room(tmp_path, start, _QUEUE) as room:
        sources = [_SPAMMER, ""] * (_WAITERS // 2)
        waiters = [room.one_more(number, source) for number, source in enumerate(sources, 1)]
        said = _say(room, "deny", _SPAMMER, "--end")
        assert said.endswith(f"; {_WAITERS // 2} sessions told to end\n")
        for waiter in waiters[::2]:
            assert heard(waiter) == BUSY
            waiter.close()
        until(lambda: room.waiting() == _WAITERS // 2, "them to be gone")
        for waiter in waiters[1::2]:
            room.end_one()
            waiter.expect("220")
            room.here.append(waiter)
        room.end_all()
        assert room.ended("client_gone") == _WAITERS // 2


def _all_wait(room: WaitingRoom) -> list[Client]:
    return [room.one_more(number) for number in range(1, _WAITERS + 1)]


def _say(room: WaitingRoom, *words: str) -> str:
    said = room.balancer.command(*words)
    assert (said.returncode, said.stderr) == (0, "")
    return said.stdout


def test_a_source_waits_and_stays_with_its_server(tmp_path: Path, start: Start) -> None:
    """It is given another one for once, since its own is full as all are."""
    with waiting_room(tmp_path, start, _QUEUE, full=False) as room:
        room.config["pools"]["farm"]["sticky"] = {"by": "source", "prefix4": 32}
        room.balancer.change(room.config)
        own = _visit(room)
        for number in range(2 * MOST):
            room.one_more(0, f"127.0.13.{number + 1}")
        waiter = room.one_more(1, _REGULAR)
        elsewhere = next(client for client in room.here if room.server_of(client) != own)
        room.here.remove(elsewhere)
        leave(elsewhere)
        assert waiter.line().split()[1] != own
        leave(waiter)
        room.end_all()
        assert _visit(room) == own
        assert room.balancer.metric("mailweir_pool_sticky_broken_total", pool="farm") == 0


def _visit(room: WaitingRoom) -> str:
    """Where the source comes to."""
    with Client(room.address, host=_REGULAR) as client:
        server = client.line().split()[1]
        client.expect("221", "QUIT")
    return server
