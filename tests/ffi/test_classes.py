"""Frozen, final, by keyword only: what the classes of the extension promise."""

from collections.abc import Callable
from typing import Any

import pytest

from ffi import plane_specs as given
from mailweir import _dataplane

MAKERS: dict[str, Callable[[], object]] = {
    "Timeouts": given.timeouts,
    "Rate": lambda: _dataplane.Rate(count=1, seconds=1.0, burst=1),
    "PerSource": given.per_source,
    "HashKey": lambda: _dataplane.HashKey(prefix4=32, prefix6=64, seed=""),
    "Sticky": lambda: _dataplane.Sticky(prefix4=24, prefix6=64, ttl=60.0),
    "Queue": lambda: _dataplane.Queue(length=1, wait=1.0),
    "ListenerSpec": given.listener,
    "ServerSpec": given.server,
    "PoolSpec": given.pool,
    "PlaneSpec": given.spec,
    "ServerState": lambda: given.state("up"),
}
CLASSES = [value for value in vars(_dataplane).values() if isinstance(value, type)]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_values_are_frozen(make: Callable[[], object]) -> None:
    value = make()
    with pytest.raises(AttributeError):
        value.name = "other"  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        value.new = 1  # type: ignore[attr-defined]


def test_stats_are_frozen() -> None:
    with given.running(workers=1) as plane:
        plane.apply(spec=given.spec())
        stats = plane.stats()
        for value in (
            stats,
            stats.listeners[0],
            stats.servers[0],
            stats.pools[0],
            stats.relay,
        ):
            with pytest.raises(AttributeError):
                value.active = 1  # type: ignore[union-attr,misc]
        stats.listeners.clear()
        assert plane.stats().listeners


@pytest.mark.parametrize(
    "cls", [c for c in CLASSES if not issubclass(c, Exception)], ids=lambda cls: cls.__name__
)
def test_classes_are_final_and_ours(cls: type) -> None:
    assert cls.__module__ == "mailweir._dataplane"
    with pytest.raises(TypeError):
        type("Sub", (cls,), {})


def test_only_by_keyword() -> None:
    positional: list[tuple[Callable[..., Any], tuple[object, ...]]] = [
        (_dataplane.Timeouts, (3.0, 45.0, 330.0, 660.0, 60.0)),
        (_dataplane.Rate, (1, 1.0, 1)),
        (_dataplane.PerSource, (1, None, 32, 64, [])),
        (_dataplane.HashKey, (32, 64, "")),
        (_dataplane.Sticky, (24, 64, 60.0)),
        (_dataplane.Queue, (1, 1.0)),
        (_dataplane.ListenerSpec, ("mx", ["127.0.0.1:0"], "smtp", "farm", given.timeouts())),
        (_dataplane.ServerSpec, ("a", "127.0.0.1:9", 100, "up")),
        (_dataplane.PoolSpec, ("farm", "least_conn", [given.server()])),
        (_dataplane.PlaneSpec, ("mx.example", [given.listener()], [given.pool()])),
        (_dataplane.ServerState, ("farm", "a", "up")),
        (_dataplane.DataPlane, (1,)),
        (_dataplane.check, (given.spec(),)),
    ]
    for call, arguments in positional:
        with pytest.raises(TypeError, match="positional"):
            call(*arguments)
    with given.running(workers=1) as plane:
        with pytest.raises(TypeError, match="positional"):
            plane.apply(given.spec())  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="positional"):
            plane.set_server_states([])  # type: ignore[call-arg]


def test_unknown_and_missing_arguments() -> None:
    with pytest.raises(TypeError, match="nice"):
        _dataplane.ServerState(pool="farm", server="a", state="up", nice=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="state"):
        _dataplane.ServerState(pool="farm", server="a")  # type: ignore[call-arg]


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_are_at_least_one(workers: int) -> None:
    with pytest.raises((_dataplane.PlaneError, OverflowError)):
        _dataplane.DataPlane(workers=workers, kept=[])
