"""What all tests share: their environment, what they need of the machine, and figures that are
always shown.
"""

import os
from collections.abc import Callable

import pytest

from harness.environment import same_everywhere
from harness.needs import needs

_FIGURES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    same_everywhere(os.environ)
    config.addinivalue_line(
        "markers", "needs(*packages): Debian packages, installed before the test where we may"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        needs(*mark.args)


@pytest.fixture
def counted(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Tell what a test did, in figures; shown after the run, passed or not."""
    figures = request.config.stash.setdefault(_FIGURES, [])
    return lambda figure: figures.append(f"{request.node.nodeid}: {figure}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    figures = config.stash.get(_FIGURES, [])
    if figures:
        terminalreporter.section("figures")
        for figure in figures:
            terminalreporter.write_line(figure)
