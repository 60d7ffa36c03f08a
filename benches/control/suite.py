"""What the control plane does, step by step, by size of the farm. Run by pytest-benchmark.

make bench-control
"""

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from benches.control.farms import SIZES, Size, farm, servers
from msgspec.structs import replace
from pytest_benchmark.fixture import BenchmarkFixture

from harness.mailweir.run import Mailweir, mailweir, write
from harness.process import run
from harness.waiting import until
from mailweir.admin.exposition import Table, encode
from mailweir.admin.figures import FIGURES, SERVERS, Servers
from mailweir.admin.metrics import Metrics
from mailweir.config.load import load
from mailweir.config.model import Config
from mailweir.config.words import Protocol
from mailweir.faults import Faults
from mailweir.plane import EmbeddedPlane
from mailweir.spec import DesiredRoom, DesiredState, ServerKey, ServerState
from mailweir.state.desired import Health, fold
from mailweir.state.diff import describe
from mailweir.state.overrides import Overrides

_ROOM = DesiredRoom(sessions=10_000, spare=1000)
_SESSIONS = 200
_STATUS = [sys.executable, "-m", "mailweir", "status", "--socket"]

pytestmark = pytest.mark.parametrize("size", SIZES, ids=lambda one: one.name)


@dataclass(frozen=True)
class Planned:
    """A farm as a file, as the model and folded."""

    file: Path
    config: Config
    desired: DesiredState


@pytest.fixture
def planned(tmp_path: Path, size: Size) -> Planned:
    """A farm whose servers are all up, and nowhere."""
    file = tmp_path / "mailweir.yaml"
    write(file, farm(tmp_path, size, 9))
    config = load(file).config
    return Planned(file, config, _fold(config))


def _fold(config: Config) -> DesiredState:
    keys = (ServerKey(p, s) for p, pool in config.pools.items() for s in pool.servers)
    health = dict.fromkeys(keys, Health.UP)
    return fold(config, health, Overrides(), hostname="mailweir.test", room=_ROOM)


@pytest.fixture
def plane(planned: Planned) -> Iterator[EmbeddedPlane]:
    """The data plane, with the farm applied."""
    started = EmbeddedPlane(2, kept=[])
    try:
        started.apply(planned.desired)
        yield started
    finally:
        started.stop()


def test_load(benchmark: BenchmarkFixture, planned: Planned) -> None:
    loaded = benchmark(load, planned.file)
    assert loaded.config == planned.config


def test_fold(benchmark: BenchmarkFixture, planned: Planned) -> None:
    assert benchmark(_fold, planned.config) == planned.desired


def test_describe(benchmark: BenchmarkFixture, planned: Planned) -> None:
    other = _weighing(planned.desired, 1)
    assert "weight 100 -> 1" in benchmark(describe, planned.desired, other)


def test_apply(benchmark: BenchmarkFixture, planned: Planned, plane: EmbeddedPlane) -> None:
    states = [_weighing(planned.desired, weight) for weight in (1, 2)]
    generations = []

    def apply() -> None:
        states.reverse()
        generations.append(plane.apply(states[0]))

    benchmark(apply)
    assert generations == list(range(2, len(generations) + 2))


def _weighing(desired: DesiredState, weight: int) -> DesiredState:
    """With another weight of the first server of each pool."""
    pools = tuple(
        replace(pool, servers=(replace(pool.servers[0], weight=weight), *pool.servers[1:]))
        for pool in desired.pools
    )
    return replace(desired, pools=pools)


def test_stats(benchmark: BenchmarkFixture, plane: EmbeddedPlane, size: Size) -> None:
    assert len(benchmark(plane.stats).pools) == size.pools


def test_servers(benchmark: BenchmarkFixture, plane: EmbeddedPlane, size: Size) -> None:
    assert len(benchmark(plane.servers)) == size.pools * size.servers


def test_set_server_states(
    benchmark: BenchmarkFixture, planned: Planned, plane: EmbeddedPlane
) -> None:
    states = dict.fromkeys(planned.desired.server_states(), ServerState.DOWN)
    benchmark(plane.set_server_states, states)
    assert {server.state for server in plane.servers()} == {"down"}


def test_sessions(benchmark: BenchmarkFixture, planned: Planned, plane: EmbeddedPlane) -> None:
    with socket.create_server(("127.0.0.2", 0), backlog=_SESSIONS) as server:
        address = "{}:{}".format(*server.getsockname())
        plane.apply(_leading_to(planned.desired, address))
        host, _, port = plane.stats().listeners[0].addresses[0].rpartition(":")
        with ExitStack() as exits:
            for _ in range(_SESSIONS):
                exits.enter_context(socket.create_connection((host, int(port))))
            # Each has its server, which says nothing, so they stay.
            until(lambda: plane.servers()[0].active == _SESSIONS, "the sessions")
            found = benchmark(plane.sessions, listener=None, server=None, limit=100)
    assert len(found) == 100


def _leading_to(desired: DesiredState, address: str) -> DesiredState:
    """All sessions go to one server of the first pool, and nobody need speak."""
    first, *others = desired.pools
    only = replace(first, servers=(replace(first.servers[0], address=address),))
    opaque = tuple(replace(listener, protocol=Protocol.TCP) for listener in desired.listeners)
    return replace(desired, pools=(only, *others), listeners=opaque)


def test_metrics(benchmark: BenchmarkFixture, plane: EmbeddedPlane, size: Size) -> None:
    metrics = Metrics(Faults(), version="0", started=0.0)
    data_plane = (
        Table(FIGURES, plane.stats),
        Table(SERVERS, lambda: Servers(plane.stats().bounds, plane.servers(with_times=True))),
    )
    body = benchmark(encode, metrics.registry, *data_plane)
    assert body.count(b"mailweir_server_weight{") == size.pools * size.servers


@contextmanager
def _running(folder: Path, size: Size) -> Iterator[Mailweir]:
    with servers() as port, mailweir(folder, farm(folder, size, port)) as balancer:
        yield balancer


def test_status_command(benchmark: BenchmarkFixture, tmp_path: Path, size: Size) -> None:
    with _running(tmp_path, size):
        done = benchmark(run, [*_STATUS, tmp_path / "admin.sock"])
    assert done.returncode == 0
    assert f"pool{size.pools - 1}" in done.stdout
