"""Specifications to begin with, a data plane that is stopped in the end, a small farm.

Words come as text, so that tests can try those that aren't known.
"""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO, cast

from msgspec.json import decode, encode

from mailweir._dataplane import DataPlane
from mailweir.config.words import Balance, DryRun, Forwarding, LogFormat, Protocol, Proxy, Refuse
from mailweir.spec import (
    DesiredAccess,
    DesiredDrain,
    DesiredHashKey,
    DesiredKernel,
    DesiredListener,
    DesiredLog,
    DesiredPerSource,
    DesiredPool,
    DesiredQueue,
    DesiredRate,
    DesiredRoom,
    DesiredServer,
    DesiredSource,
    DesiredState,
    DesiredSticky,
    DesiredTimeouts,
    ServerState,
)
from mailweir.stats import ServerStats, Stats

LIMIT = 10.0  # seconds for a step that waits


def timeouts(
    *,
    connect: float = 3.0,
    accept_total: float = 45.0,
    idle_client: float = 330.0,
    idle_server: float = 660.0,
    greeting: float = 15.0,
    half_closed: float = 60.0,
) -> DesiredTimeouts:
    return DesiredTimeouts(
        connect=connect,
        accept_total=accept_total,
        idle_client=idle_client,
        idle_server=idle_server,
        greeting=greeting,
        half_closed=half_closed,
    )


def listener(
    *,
    name: str = "mx",
    bind: str = "127.0.0.1:0",
    protocol: str = "smtp",
    pool: str = "farm",
    limits: DesiredTimeouts | None = None,
    max_sessions: int | None = None,
    max_age: float | None = None,
    forwarding: str = "relay",
    allow: Sequence[str] = (),
    deny: Sequence[str] = (),
    admits_others: bool = True,
    deny_code: int = 554,
    refuse: str = "reply",
    per_source: DesiredPerSource | None = None,
    dry_run: Sequence[str] = (),
) -> DesiredListener:
    return DesiredListener(
        name=name,
        bind=(bind,),
        protocol=cast(Protocol, protocol),
        pool=pool,
        timeouts=limits or timeouts(),
        max_sessions=max_sessions,
        max_age=max_age,
        forwarding=cast(Forwarding, forwarding),
        paused=False,
        access=DesiredAccess(tuple(allow), tuple(deny), admits_others, deny_code),
        refuse=cast(Refuse, refuse),
        per_source=per_source,
        dry_run=cast(tuple[DryRun, ...], tuple(dry_run)),
    )


def per_source(*, sessions: int | None = None, rate: DesiredRate | None = None) -> DesiredPerSource:
    return DesiredPerSource(sessions, rate, DesiredSource(32, 64), exempt=())


def server(
    *,
    name: str = "a",
    address: str = "127.0.0.1:9",
    weight: int = 100,
    state: str = "up",
    max_sessions: int | None = None,
    proxy: str = "off",
    source: Sequence[str] = (),
    backup: bool = False,
) -> DesiredServer:
    return DesiredServer(
        name=name,
        address=address,
        weight=weight,
        state=cast(ServerState, state),
        max_sessions=max_sessions,
        proxy=cast(Proxy, proxy),
        source=tuple(source),
        backup=backup,
    )


def pool(
    *servers: DesiredServer,
    name: str = "farm",
    balance: str = "least_conn",
    sticky: DesiredSticky | None = None,
    slow_start: float = 0.0,
    queue: DesiredQueue | None = None,
    overflow: Sequence[str] = (),
) -> DesiredPool:
    return DesiredPool(
        name=name,
        balance=cast(Balance, balance),
        servers=servers or (server(),),
        hash_key=DesiredHashKey(DesiredSource(32, 64), ""),
        sticky=sticky,
        slow_start=slow_start,
        queue=queue,
        overflow=tuple(overflow),
    )


def spec(
    *,
    hostname: str = "mx.example",
    listeners: Sequence[DesiredListener] | None = None,
    pools: Sequence[DesiredPool] | None = None,
    denied: Sequence[str] = (),
    room: DesiredRoom | None = None,
) -> bytes:
    """As the extension takes it."""
    state = DesiredState(
        hostname=hostname,
        max_sessions=1000,
        room=room or DesiredRoom(sessions=1000, spare=100),
        drain=DesiredDrain(quiet=5.0, quiet_opaque=30.0, spread=0.0, deadline=60.0),
        log=DesiredLog("off", LogFormat.JSON),
        kernel=DesiredKernel("test", source_ports=(10000, 32767), max_flows=1000, counted=False),
        listeners=(listener(),) if listeners is None else tuple(listeners),
        pools=(pool(),) if pools is None else tuple(pools),
        denied=tuple(denied),
    )
    return encode(state)


def states(value: str, *servers: str) -> bytes:
    """One state for servers of the pool, as the extension takes it."""
    return encode([("farm", server, value) for server in servers or ("a",)])


@contextmanager
def running(workers: int = 2) -> Iterator[DataPlane]:
    """A data plane whose threads are gone afterwards."""
    plane = DataPlane(workers=workers, kept=[])
    try:
        yield plane
    finally:
        plane.stop()


def stats(plane: DataPlane) -> Stats:
    return decode(plane.stats(), type=Stats)


def servers(plane: DataPlane, *, with_times: bool = False) -> list[ServerStats]:
    return decode(plane.servers(with_times=with_times), type=list[ServerStats])


def address(plane: DataPlane) -> tuple[str, int]:
    """Where the first listener is to be reached."""
    host, _, port = stats(plane).listeners[0].addresses[0].rpartition(":")
    return host, int(port)


@contextmanager
def farm() -> Iterator[str]:
    """The address of a server that greets, answers QUIT with 221 and ends."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                # Tests may cut it short.
                with connection, connection.makefile("rb") as stream, suppress(OSError):
                    connection.sendall(b"220 farm.example\r\n")
                    if stream.readline() == b"QUIT\r\n":
                        connection.sendall(b"221 bye\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            # A close alone doesn't wake an accept that waits.
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(LIMIT)


@contextmanager
def connected(at: tuple[str, int]) -> Iterator[tuple[socket.socket, BinaryIO]]:
    """A client's connection, and what it hears."""
    with (
        socket.create_connection(at, timeout=LIMIT) as connection,
        connection.makefile("rb") as stream,
    ):
        yield connection, stream


def talk(at: tuple[str, int], said: bytes = b"QUIT\r\n") -> bytes:
    """All that a client hears which says `said` once it is greeted."""
    with connected(at) as (connection, stream):
        greeting = stream.readline()
        if greeting.startswith(b"220"):
            connection.sendall(said)
        return greeting + stream.read()
