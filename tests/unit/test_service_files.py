"""The units for systemd."""

from configparser import RawConfigParser
from pathlib import Path

import pytest

_UNITS = sorted((Path(__file__).parents[2] / "config").glob("*.service"))


def unit(path: Path) -> RawConfigParser:
    found = RawConfigParser(strict=False)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(path)
    return found


@pytest.mark.parametrize("path", _UNITS, ids=lambda path: path.name)
def test_a_power_cut_leaves_none_of_them_dead(path: Path) -> None:
    """It waits for no network, and tries again however often that fails."""
    found = unit(path)
    assert "network-online" not in f"{found['Unit'].get('Wants')}{found['Unit'].get('After')}"
    assert found["Unit"]["StartLimitIntervalSec"] == "0"
    assert found["Service"]["Restart"] in ("always", "on-failure")
    assert found["Service"]["RestartPreventExitStatus"] == "78"
    # systemd.service(5) has that for the main process alone: a check before it would fail for ever.
    assert found["Service"].get("ExecStartPre", "-").startswith("-")


@pytest.mark.parametrize("path", _UNITS, ids=lambda path: path.name)
def test_each_has_a_user_of_its_own_with_all_that_it_may_have(path: Path) -> None:
    """The same: folders are shared. What the user isn't given at the start it can't have."""
    service = unit(path)["Service"]
    assert service["User"] == service["Group"] == "mailweir"
    assert service["AmbientCapabilities"] == service["CapabilityBoundingSet"]


def test_each_process_has_one() -> None:
    commands = [unit(path)["Service"]["ExecStart"].split()[1:-2] for path in _UNITS]
    assert commands == [["ha", "run"], ["ha", "witness"], ["run"]]
