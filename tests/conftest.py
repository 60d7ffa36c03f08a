"""What all tests share: their environment, what they need of the machine, and figures that are
always shown.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from harness.machine.environment import same_everywhere
from harness.machine.mounts import own_mounts
from harness.needs import needs
from harness.order import mingled

_FIGURE = "figure"
_SCENARIOS = Path(__file__).parent / "scenarios"
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
    items[:] = mingled(
        items,
        module=lambda item: item.nodeid.partition("::")[0],
        waits=lambda item: _SCENARIOS in item.path.parents,
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    others = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)) - 1
    if others and item.get_closest_marker("alone"):
        pytest.skip("runs with no other test beside it: `make test`, or `pytest -m alone`")
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
