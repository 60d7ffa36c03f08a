"""What all tests share: their environment, what they need of the machine, and figures that are
always shown.
"""

import os
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import settings

from harness.machine.environment import same_everywhere
from harness.machine.mounts import own_mounts
from harness.machine.turns import alone, beside_others
from harness.needs import needs

_FIGURE = "figure"
# How long an example takes is the machine's affair.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    same_everywhere(os.environ)
    if hasattr(config, "workerinput"):
        # Beside other workers of pytest-xdist: none sees what another one mounts.
        own_mounts()
    config.addinivalue_line(
        "markers", "needs(*packages): Debian packages, installed before the test where we may"
    )
    config.addinivalue_line("markers", "alone(reason): with no other test beside it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that run alone come last, so that the others don't wait for each of them."""
    items.sort(key=lambda item: item.get_closest_marker("alone") is not None)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    """Before anything is timed: a test waits for its turn."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    # Each worker has a folder of its own in that of the run.
    file = Path(item.config.option.basetemp).parent / "turn"
    turn = alone if item.get_closest_marker("alone") else beside_others
    with turn(file):
        return (yield)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        needs(*mark.args)


@pytest.fixture
def counted(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Tell what a test did, in figures; shown after the run, passed or not."""
    told = request.node.user_properties
    return lambda figure: told.append((_FIGURE, figure))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # A worker of pytest-xdist tells its reports alone.
    figures = [
        f"{report.nodeid}: {figure}"
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, figure in report.user_properties
        if name == _FIGURE and report.when == "call"
    ]
    if figures:
        terminalreporter.section("figures")
        for figure in figures:
            terminalreporter.write_line(figure)
