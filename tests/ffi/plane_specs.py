"""Specifications to begin with, a data plane that is stopped in the end, a small farm."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from mailweir._dataplane import (
    DataPlane,
    Drain,
    HashKey,
    Kernel,
    ListenerSpec,
    Log,
    PerSource,
    PlaneSpec,
    PoolSpec,
    Queue,
    Rate,
    Room,
    ServerSpec,
    ServerState,
    Sticky,
    Timeouts,
)

LIMIT = 10.0  # seconds for a step that waits


def timeouts(
    *,
    connect: float = 3.0,
    accept_total: float = 45.0,
    idle_client: float = 330.0,
    idle_server: float = 660.0,
    greeting: float = 15.0,
    half_closed: float = 60.0,
) -> Timeouts:
    return Timeouts(
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
    limits: Timeouts | None = None,
    max_sessions: int | None = None,
    max_age: float | None = None,
    forwarding: str = "relay",
    allow: list[str] | None = None,
    deny: list[str] | None = None,
    admits_others: bool = True,
    deny_code: int = 554,
    refuse: str = "reply",
    per_source: PerSource | None = None,
    dry_run: list[str] | None = None,
) -> ListenerSpec:
    return ListenerSpec(
        name=name,
        bind=[bind],
        protocol=protocol,
        pool=pool,
        timeouts=limits or timeouts(),
        max_sessions=max_sessions,
        max_age=max_age,
        forwarding=forwarding,
        paused=False,
        allow=allow or [],
        deny=deny or [],
        admits_others=admits_others,
        deny_code=deny_code,
        refuse=refuse,
        per_source=per_source,
        dry_run=dry_run or [],
    )


def per_source(*, sessions: int | None = None, rate: Rate | None = None) -> PerSource:
    return PerSource(sessions=sessions, rate=rate, prefix4=32, prefix6=64, exempt=[])


def server(
    *,
    name: str = "a",
    address: str = "127.0.0.1:9",
    weight: int = 100,
    state: str = "up",
    max_sessions: int | None = None,
    proxy: str = "off",
    source: list[str] | None = None,
    backup: bool = False,
) -> ServerSpec:
    return ServerSpec(
        name=name,
        address=address,
        weight=weight,
        state=state,
        max_sessions=max_sessions,
        proxy=proxy,
        source=source or [],
        backup=backup,
    )


def pool(
    *servers: ServerSpec,
    name: str = "farm",
    balance: str = "least_conn",
    hash_key: HashKey | None = None,
    sticky: Sticky | None = None,
    slow_start: float = 0.0,
    queue: Queue | None = None,
) -> PoolSpec:
    return PoolSpec(
        name=name,
        balance=balance,
        servers=list(servers) or [server()],
        hash_key=hash_key or HashKey(prefix4=32, prefix6=64, seed=""),
        sticky=sticky,
        slow_start=slow_start,
        queue=queue,
    )


def spec(
    *,
    hostname: str = "mx.example",
    listeners: list[ListenerSpec] | None = None,
    pools: list[PoolSpec] | None = None,
    log: Log | None = None,
    denied: list[str] | None = None,
    room: Room | None = None,
) -> PlaneSpec:
    return PlaneSpec(
        hostname=hostname,
        max_sessions=1000,
        room=room or Room(sessions=1000, spare=100),
        drain=Drain(quiet=5.0, quiet_opaque=30.0, spread=0.0, deadline=60.0),
        log=log or Log(sessions="off", format="json"),
        kernel=Kernel(instance="test", source_ports=(10000, 32767), max_flows=1000, counted=False),
        listeners=[listener()] if listeners is None else listeners,
        pools=[pool()] if pools is None else pools,
        denied=denied or [],
    )


def state(value: str, *, pool: str = "farm", server: str = "a") -> ServerState:
    return ServerState(pool=pool, server=server, state=value)


@contextmanager
def running(workers: int = 2) -> Iterator[DataPlane]:
    """A data plane whose threads are gone afterwards."""
    plane = DataPlane(workers=workers, kept=[])
    try:
        yield plane
    finally:
        plane.stop()


def address(plane: DataPlane) -> tuple[str, int]:
    """Where the first listener is to be reached."""
    host, _, port = plane.stats().listeners[0].addresses[0].rpartition(":")
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
