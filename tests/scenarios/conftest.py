"""What the scenarios begin with: mailweir in front of servers, and load.

A scenario is one behaviour, seen from outside, with real processes. Each has its own
folder, ports and processes, so any can be run alone and in any order.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from harness.clients.smtpload import Smtpload, build
from harness.mailweir.run import Mailweir, Tree, mailweir
from harness.mailweir.rust_example import rust_example
from harness.needs import missing
from harness.networks.row import pins, remove_pins
from harness.pair.rig import Rig, pair_rig
from harness.scale import count


class Start(Protocol):
    """Starts mailweir with a configuration, behind the beginning of a command if there is one."""

    def __call__(self, config: Tree, before: Sequence[str | Path] = ()) -> Mailweir: ...


_HERE = Path(__file__).parent
_LIMIT = 120  # seconds for one test


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Building and installing happens in fixtures, with limits of its own."""
    for item in items:
        if _HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(count(_LIMIT, 10 * _LIMIT), func_only=True))


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    """The extension is there."""
    if importlib.util.find_spec("mailweir._dataplane") is None:
        missing("needs the extension: make setup builds it")


@pytest.fixture(autouse=True)
def nothing_in_the_kernel() -> Iterator[None]:
    """What a test left there is gone with it."""
    before = pins()
    yield
    remove_pins(pins() - before)


@pytest.fixture(scope="session")
def pair(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Two nodes with the default timers, for all tests that leave them both well."""
    assert built is None
    with pair_rig(tmp_path_factory.mktemp("pair")) as rig:
        yield rig


@pytest.fixture(scope="session")
def smtpload_binary() -> Path:
    """The load generator."""
    return build()


@pytest.fixture(scope="module")
def victim() -> Iterator[Path]:
    """A balancer that dies where it is told to; what it leaves in the kernel is removed at last."""
    yield rust_example("victim", "failpoints")
    remove_pins({folder for folder in pins() if folder.name.endswith("-victim")})


@pytest.fixture
def smtpload(smtpload_binary: Path, tmp_path: Path) -> Smtpload:
    """The load generator, for this test."""
    return Smtpload(smtpload_binary, tmp_path)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts mailweir; it is ended with the test."""
    with ExitStack() as exits:

        def start(config: Tree, before: Sequence[str | Path] = ()) -> Mailweir:
            return exits.enter_context(mailweir(tmp_path, config, before))

        yield start
