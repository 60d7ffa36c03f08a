"""The order of tests: modules that wait stand between modules that compute, so that the workers of
pytest-xdist, each of which takes a stretch of the row, have some of both at any time. Used by
`conftest`.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

_Test = TypeVar("_Test")


def mingled(
    tests: list[_Test], module: Callable[[_Test], str], waits: Callable[[_Test], bool]
) -> list[_Test]:
    """The same tests. Modules stay whole, for the sake of what their tests share; of two kinds of
    modules each is spread over the whole row, in its order.
    """
    modules: dict[str, list[_Test]] = {}
    for test in tests:
        modules.setdefault(module(test), []).append(test)
    kinds = [[one for one in modules.values() if waits(one[0]) is kind] for kind in (True, False)]
    row = sorted((place for kind in kinds for place in _places(kind)), key=lambda place: place[0])
    return [test for _, of_module in row for test in of_module]


def _places(modules: list[list[_Test]]) -> Iterator[tuple[float, list[_Test]]]:
    """Where the middle of each stands, from 0 to 1."""
    whole, before = sum(map(len, modules)), 0
    for tests in modules:
        yield (before + len(tests) / 2) / whole, tests
        before += len(tests)
