"""What goes into the extension comes out as it should, and a refusal changes nothing."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from msgspec.json import decode, encode

from ffi import plane_specs as given
from mailweir import _dataplane
from mailweir._dataplane import BindError, DataPlane, PlaneError, SpecError
from mailweir.spec import (
    DesiredQueue,
    DesiredRate,
    DesiredRoom,
    DesiredSource,
    DesiredSticky,
    Elsewhere,
)
from mailweir.stats import Admission, PoolConduct, ServerConduct


@pytest.fixture
def plane() -> Iterator[DataPlane]:
    with given.running() as plane:
        yield plane


def until(condition: Callable[[], bool]) -> None:
    """Wait for what the workers do in their own time."""
    deadline = time.monotonic() + given.LIMIT
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.005)


def test_before_the_first_apply(plane: DataPlane) -> None:
    stats = given.stats(plane)
    assert (stats.generation, len(stats.workers), stats.active, stats.draining) == (0, 2, 0, False)
    assert (stats.listeners, given.servers(plane)) == ((), [])


def test_port_0_shows_as_the_port_that_was_given(plane: DataPlane) -> None:
    listeners = [given.listener(), given.listener(name="v6", bind="[::1]:0")]
    assert plane.apply(spec=given.spec(listeners=listeners)) == 1
    four, six = (listener.addresses for listener in given.stats(plane).listeners)
    assert four[0].startswith("127.0.0.1:")
    assert six[0].startswith("[::1]:")
    for (text,) in (four, six):
        host, _, port = text.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=given.LIMIT).close()


def test_generations_count_up_and_a_kept_listener_keeps_its_port(plane: DataPlane) -> None:
    assert plane.apply(spec=given.spec()) == 1
    before = given.address(plane)
    assert plane.apply(spec=given.spec(pools=[given.pool(given.server(weight=7))])) == 2
    assert given.stats(plane).generation == 2
    assert given.address(plane) == before


def test_servers_come_back_in_order_as_given(plane: DataPlane) -> None:
    servers = [
        given.server(name="b", address="10.0.0.2:25", weight=0, state="drain"),
        given.server(name="a", address="[2001:db8::1]:2525", weight=1000, state="maint"),
    ]
    plane.apply(spec=given.spec(pools=[given.pool(*servers, balance="round_robin")]))
    assert [(s.pool, s.name, s.address, s.weight, s.state) for s in given.servers(plane)] == [
        ("farm", "b", "10.0.0.2:25", 0, "drain"),
        ("farm", "a", "[2001:db8::1]:2525", 1000, "maint"),
    ]


def test_what_servers_do_to_sessions_is_told_by_pool(plane: DataPlane) -> None:
    dead = given.server(name="dead", address="127.0.0.1:9")
    plane.apply(spec=given.spec(pools=[given.pool(dead, given.server(name="b"))]))
    plane.set_server_states(states=given.states("up", "dead"))
    plane.set_server_states(states=given.states("down", "b"))
    told = decode(plane.conduct(), type=list[PoolConduct])
    nothing = [ServerConduct(name, 0, 0, 0, 0, 0) for name in ("dead", "b")]
    assert told == [PoolConduct("farm", 0, tuple(nothing))]
    with socket.create_connection(given.address(plane), timeout=given.LIMIT) as client:
        assert client.recv(3) == b"421"
    until(lambda: decode(plane.conduct(), type=list[PoolConduct])[0].bad == 1)
    (pool,) = decode(plane.conduct(), type=list[PoolConduct])
    assert pool.servers[0] == ServerConduct("dead", 0, 0, 0, in_vain=1, in_a_row=0)


def test_what_a_pool_and_a_listener_keep_comes_back(plane: DataPlane) -> None:
    limits = given.per_source(sessions=5, rate=DesiredRate(count=100, period=60.0, burst=10))
    listeners = [
        given.listener(per_source=limits, dry_run=["access", "source_rate"]),
        given.listener(name="open"),
    ]
    pools = [
        given.pool(
            given.server(state="panic"),
            given.server(name="b", backup=True),
            sticky=DesiredSticky(DesiredSource(24, 64), ttl=60.0),
            queue=DesiredQueue(length=7, wait=1.0),
        ),
        given.pool(name="other"),
    ]
    plane.apply(spec=given.spec(listeners=listeners, pools=pools))
    stats = given.stats(plane)
    limited, free = stats.listeners
    assert limited.would_refuse == dict.fromkeys(
        ("access", "source_sessions", "source_rate", "sessions"), 0
    )
    assert free.sources is None
    assert limited.sources is not None
    assert (limited.sources.entries, limited.sources.evicted) == (0, 0)
    assert limited.sources.places > 0
    farm, other = stats.pools
    assert (farm.name, farm.waiting, farm.queued) == ("farm", 0, 0)
    assert farm.queue_ends == dict.fromkeys(("served", "timeout", "client_gone", "full"), 0)
    assert other.sticky is None
    assert farm.sticky is not None
    assert (farm.sticky.entries, farm.sticky.found, farm.sticky.made) == (0, 0, 0)
    assert [(s.name, s.state, s.backup) for s in given.servers(plane)] == [
        ("a", "panic", False),
        ("b", "up", True),
        ("a", "up", False),
    ]


@pytest.mark.parametrize("balance", ["random_two", "source_hash", "maglev", "least_load"])
def test_every_way_to_balance_finds_the_only_server(plane: DataPlane, balance: str) -> None:
    plane.apply(spec=given.spec(pools=[given.pool(balance=balance)]))
    for client in ("192.0.2.9", "2001:db8::9"):
        assert plane.next_server(pool="farm", client=client) == ("farm", "a")
    plane.set_server_states(states=given.states("down"))
    assert plane.next_server(pool="farm", client="192.0.2.9") is None


def test_a_backup_is_next_while_no_other_can_be(plane: DataPlane) -> None:
    servers = [given.server(), given.server(name="b", backup=True)]
    plane.apply(spec=given.spec(pools=[given.pool(*servers)]))
    for state, expected in (("up", "a"), ("down", "b"), ("panic", "a")):
        plane.set_server_states(states=given.states(state))
        assert plane.next_server(pool="farm", client="192.0.2.9") == ("farm", expected)


def test_the_longest_prefix_decides(plane: DataPlane) -> None:
    listeners = [
        given.listener(
            allow=["10.0.0.0/8", "10.1.1.0/24"], deny=["10.1.0.0/16"], admits_others=False
        ),
        given.listener(name="tried", deny=["10.0.0.0/8"], dry_run=["access"]),
    ]
    plane.apply(spec=given.spec(listeners=listeners, denied=["10.9.0.0/16"]))

    def admission(listener: str, client: str) -> Admission:
        return decode(plane.admission(listener=listener, client=client), type=Admission)

    for client, reason in (
        ("10.0.0.1", None),
        ("10.1.0.1", "denied"),
        ("10.1.1.1", None),
        ("192.0.2.1", "denied"),
        ("10.9.0.1", "denied"),
    ):
        assert admission("mx", client) == Admission(reason, [])
    assert admission("tried", "10.0.0.1") == Admission(None, ["access"])
    assert admission("nothing", "10.0.0.1") == Admission(None, [])


def test_sessions_of_a_prefix_end(plane: DataPlane) -> None:
    with given.farm() as address:
        plane.apply(spec=given.spec(pools=[given.pool(given.server(address=address))]))
        with given.connected(given.address(plane)) as (_, stream):
            assert stream.readline().startswith(b"220")
            assert plane.kill_from(prefix="192.0.2.0/24") == 0
            assert plane.kill_from(prefix="127.0.0.0/8") == 1
            assert stream.read().startswith(b"421 4.3.2 ")
        until(lambda: given.stats(plane).active == 0)


def test_a_session_is_relayed_and_counted(plane: DataPlane) -> None:
    with given.farm() as address:
        plane.apply(spec=given.spec(pools=[given.pool(given.server(address=address))]))
        assert given.talk(given.address(plane)) == b"220 farm.example\r\n221 bye\r\n"
        until(lambda: given.stats(plane).active == 0)
    stats = given.stats(plane)
    listener, server = stats.listeners[0], given.servers(plane)[0]
    times = given.servers(plane, with_times=True)[0].times
    assert server.times is None
    assert times is not None
    assert (listener.accepted, listener.active, server.sessions, server.active) == (1, 0, 1, 0)
    assert (listener.received_bytes, listener.sent_bytes) == (6, 27)
    assert (server.received_bytes, server.sent_bytes) == (27, 6)
    assert sum(listener.ended.values()) == 1
    assert all(label.replace("_", "").isalnum() for label in listener.ended)
    for histogram, bounds in (
        (listener.session_time, stats.bounds.session),
        (times.connect, stats.bounds.connect),
    ):
        assert len(histogram.counts) == len(bounds) + 1
        assert sum(histogram.counts) == 1
        assert 0 < histogram.sum < given.LIMIT
        assert list(bounds) == sorted(bounds)
    assert stats.relay.copied_bytes + stats.relay.spliced_bytes == 33


def test_without_a_server_the_client_gets_a_421(plane: DataPlane) -> None:
    plane.apply(spec=given.spec(pools=[given.pool(given.server(state="down"))]))
    assert given.talk(given.address(plane)).startswith(b"421 4.3.2 mx.example ")


def test_server_states_change_alone(plane: DataPlane) -> None:
    plane.apply(spec=given.spec(pools=[given.pool(given.server(state="down"))]))
    plane.set_server_states(states=given.states("up", "a", "nobody"))
    assert [server.state for server in given.servers(plane)] == ["up"]
    assert given.stats(plane).generation == 1


def test_drain_stops_listening_and_keeps_sessions(plane: DataPlane) -> None:
    with given.farm() as address:
        plane.apply(spec=given.spec(pools=[given.pool(given.server(address=address))]))
        at = given.address(plane)
        with given.connected(at) as (connection, stream):
            assert stream.readline() == b"220 farm.example\r\n"
            plane.drain(to_successor=False)
            assert given.stats(plane).draining

            def refused() -> bool:
                with suppress(ConnectionRefusedError):
                    socket.create_connection(at, timeout=given.LIMIT).close()
                    return False
                return True

            until(refused)
            connection.sendall(b"QUIT\r\n")
            assert stream.read() == b"221 bye\r\n"
        until(lambda: given.stats(plane).active == 0)


def test_stop_ends_sessions_and_a_second_one_does_nothing(plane: DataPlane) -> None:
    with given.farm() as address:
        plane.apply(spec=given.spec(pools=[given.pool(given.server(address=address))]))
        with given.connected(given.address(plane)) as (_, stream):
            assert stream.readline().startswith(b"220")
            plane.stop()
            with suppress(ConnectionResetError):
                assert stream.read() == b""
    plane.stop()


CONTRADICTIONS: dict[str, Callable[[], bytes]] = {
    "two listeners of a name": lambda: given.spec(listeners=[given.listener(), given.listener()]),
    "two pools of a name": lambda: given.spec(pools=[given.pool(), given.pool()]),
    "two servers of a name": lambda: given.spec(pools=[given.pool(given.server(), given.server())]),
    "a pool that isn't there": lambda: given.spec(listeners=[given.listener(pool="other")]),
    "no address": lambda: given.spec(listeners=[given.listener(bind="localhost:25")]),
    "no server address": lambda: given.spec(pools=[given.pool(given.server(address="a:25"))]),
    "a protocol": lambda: given.spec(listeners=[given.listener(protocol="http")]),
    "a balance": lambda: given.spec(pools=[given.pool(balance="best")]),
    "a state": lambda: given.spec(pools=[given.pool(given.server(state="tired"))]),
    "a weight": lambda: given.spec(pools=[given.pool(given.server(weight=1001))]),
    "a time": lambda: given.spec(
        listeners=[given.listener(limits=given.timeouts(connect=float("nan")))]
    ),
    "a prefix": lambda: given.spec(listeners=[given.listener(deny=["10.0.0.1/8"])]),
    "a denied prefix": lambda: given.spec(denied=["nobody"]),
    "a way to refuse": lambda: given.spec(listeners=[given.listener(refuse="politely")]),
    "a dry run": lambda: given.spec(listeners=[given.listener(dry_run=["all"])]),
    "no room for sessions": lambda: given.spec(room=DesiredRoom(sessions=0, spare=100)),
    "no spare room": lambda: given.spec(room=DesiredRoom(sessions=1000, spare=0)),
    "a negative time": lambda: given.spec(
        listeners=[given.listener(limits=given.timeouts(idle_client=-1.0))]
    ),
}


@pytest.mark.parametrize("wrong", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_contradiction_is_a_spec_error(plane: DataPlane, wrong: Callable[[], bytes]) -> None:
    plane.apply(spec=given.spec())
    before = given.address(plane)
    with pytest.raises(SpecError):
        _dataplane.check(spec=wrong())
    with pytest.raises(SpecError):
        plane.apply(spec=wrong())
    assert given.stats(plane).generation == 1
    assert given.address(plane) == before


def test_check_of_what_is_fine() -> None:
    _dataplane.check(spec=given.spec())


def test_an_unknown_state_is_a_spec_error(plane: DataPlane) -> None:
    plane.apply(spec=given.spec())
    with pytest.raises(SpecError):
        plane.set_server_states(states=given.states("tired"))
    assert [server.state for server in given.servers(plane)] == ["up"]


def test_a_taken_port_changes_nothing(plane: DataPlane) -> None:
    plane.apply(spec=given.spec(pools=[given.pool(given.server(state="down"))]))
    before = given.address(plane)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        more = [given.listener(), given.listener(name="taken", bind=bind)]
        with pytest.raises(BindError) as caught:
            plane.apply(spec=given.spec(hostname="other.example", listeners=more))
    for part in ("taken", bind, "in use"):
        assert part in str(caught.value)
    stats = given.stats(plane)
    assert stats.generation == 1
    assert [(li.name, li.addresses) for li in stats.listeners] == [
        ("mx", (f"{before[0]}:{before[1]}",))
    ]
    assert [server.state for server in given.servers(plane)] == ["down"]
    assert given.talk(before).startswith(b"421 4.3.2 mx.example ")


def test_errors_have_one_base() -> None:
    assert issubclass(SpecError, PlaneError)
    assert issubclass(BindError, PlaneError)
    assert {SpecError.__module__, BindError.__module__} == {"mailweir._dataplane"}


def test_sessions_of_the_process_before_hold_places(plane: DataPlane) -> None:
    plane.apply(spec=given.spec(listeners=[given.listener(max_sessions=5)]))
    plane.set_elsewhere(elsewhere=encode(Elsewhere((("mx", 5), ("gone", 1)), (("farm", "a", 3),))))
    (server,) = given.servers(plane)
    assert server.active == 3
    full = decode(plane.admission(listener="mx", client="192.0.2.9"), type=Admission)
    assert full.refused == "full"
    plane.set_elsewhere(elsewhere=encode(Elsewhere((("mx", 4),), (("farm", "a", 1),))))
    (server,) = given.servers(plane)
    assert server.active == 1
    room = decode(plane.admission(listener="mx", client="192.0.2.9"), type=Admission)
    assert room.refused is None
    plane.set_elsewhere(elsewhere=encode(Elsewhere((), ())))
    (server,) = given.servers(plane)
    assert server.active == 0
    with pytest.raises(SpecError):
        plane.set_elsewhere(elsewhere=b"{}")
