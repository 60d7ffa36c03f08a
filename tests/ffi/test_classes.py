"""Final, by keyword only: what the classes of the extension promise."""

from collections.abc import Callable
from typing import Any

import pytest

from ffi import plane_specs as given
from mailweir import _dataplane

CLASSES = [value for value in vars(_dataplane).values() if isinstance(value, type)]


@pytest.mark.parametrize(
    "cls", [c for c in CLASSES if not issubclass(c, Exception)], ids=lambda cls: cls.__name__
)
def test_classes_are_final_and_ours(cls: type) -> None:
    assert cls.__module__ == "mailweir._dataplane"
    with pytest.raises(TypeError):
        type("Sub", (cls,), {})


def test_only_by_keyword() -> None:
    positional: list[tuple[Callable[..., Any], tuple[object, ...]]] = [
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
            plane.set_server_states(b"[]")  # type: ignore[call-arg]


def test_unknown_and_missing_arguments() -> None:
    with pytest.raises(TypeError, match="nice"):
        _dataplane.check(spec=given.spec(), nice=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="spec"):
        _dataplane.check()  # type: ignore[call-arg]


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_are_at_least_one(workers: int) -> None:
    with pytest.raises((_dataplane.PlaneError, OverflowError)):
        _dataplane.DataPlane(workers=workers, kept=[])
