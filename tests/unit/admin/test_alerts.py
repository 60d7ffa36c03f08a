"""The rules of `config/prometheus`: what they ask for is exported, each alert is silent, fires and
is silent again, and says what to do.
"""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.programs.alerts import FOLDER, alerts_of
from harness.programs.promql import asked
from mailweir.admin.standing import STANDING
from mailweir.cli import commands
from unit.admin.exported import ADDED, exported, of_groups, registered

RULES = sorted(FOLDER.glob("*.rules.yml"))
TESTS = sorted((FOLDER / "tests").glob("*.test.yml"))
_COMMAND = re.compile(r"`mailweir ([a-z]+)(?: ([a-z]+))?")
_EXPORTED = exported()
_PAGE = FOLDER.parents[1] / "docs/watching.md"

Alert = dict[str, Any]


_ALERTS = [pytest.param(one, id=one["alert"]) for file in RULES for one in alerts_of(file)]


@pytest.mark.parametrize("alert", _ALERTS)
def test_what_is_asked_for_is_exported(alert: Alert) -> None:
    names = is_exported(alert["expr"])
    assert set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"])) <= names


def is_exported(expression: str) -> set[str]:
    """Every metric and label of it; the labels that its result may have are returned."""
    found = asked(expression)
    assert found.selectors
    known = set(ADDED)
    for selector in found.selectors:
        assert selector.metric in _EXPORTED
        labels = _EXPORTED[selector.metric] | ADDED
        assert {label for label, _, _ in selector.matchers} <= labels
        known |= labels
    assert found.groupings <= known
    return found.kept - {"le"} or known


@pytest.mark.parametrize("alert", _ALERTS)
def test_it_says_what_to_do(alert: Alert) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    for command, inner in _COMMAND.findall(alert["annotations"]["summary"]):
        assert command in commands.commands
        group = getattr(commands.commands[command], "commands", None)
        assert group is None or inner in group


def test_the_page_for_operators_has_each() -> None:
    named = re.findall(r"`(Mailweir\w+)`", _PAGE.read_text())
    assert sorted(named) == sorted(one["alert"] for file in RULES for one in alerts_of(file))


def test_each_is_silent_fires_and_is_silent_again() -> None:
    for file, tests in zip(RULES, TESTS, strict=True):
        claimed: dict[str, list[bool]] = {}
        for one in yaml.safe_load(tests.read_text())["tests"]:
            for claim in one["alert_rule_test"]:
                claimed.setdefault(claim["alertname"], []).append("exp_alerts" in claim)
        assert claimed == {one["alert"]: [False, True, False] for one in alerts_of(file)}


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize("file", [*RULES, *TESTS], ids=lambda file: file.name)
def test_promtool_agrees(file: Path) -> None:
    what = "check" if file in RULES else "test"
    done = subprocess.run(["promtool", what, "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs("prometheus")
def test_promtool_would_see_an_alert_that_stays(tmp_path: Path) -> None:
    """That it is silent again is looked at, and not only written down."""
    text = (FOLDER / "tests/mailweir-ha.test.yml").read_text()
    assert "1x4 0x2 1x2" in text
    planted = tmp_path / "planted.test.yml"
    planted.write_text(text.replace("../", f"{FOLDER}/").replace("1x4 0x2 1x2", "1x4 0x2 0x2"))
    done = subprocess.run(["promtool", "test", "rules", planted], capture_output=True, text=True)
    assert done.returncode != 0
    assert "MailweirPairNotRedundant" in done.stdout + done.stderr


@pytest.mark.needs("prometheus")
def test_what_operators_are_to_write_is_taken(tmp_path: Path) -> None:
    [block] = re.findall(r"(?s)```yml\n(.*?)```", _PAGE.read_text())
    for rules in RULES:
        (tmp_path / rules.name).write_text(rules.read_text())
    file = tmp_path / "prometheus.yml"
    file.write_text(block)
    done = subprocess.run(["promtool", "check", "config", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("rules found") == len(RULES)


def test_no_metric_is_there_twice() -> None:
    assert not registered().keys() & of_groups(STANDING).keys()


@pytest.mark.parametrize(
    "expression",
    ["mailweir_raedy == 0", 'mailweir_ready{pool="x"}', "sum by (pool) (mailweir_ready)"],
)
def test_a_wrong_name_is_seen(expression: str) -> None:
    with pytest.raises(AssertionError):
        is_exported(expression)


@pytest.mark.parametrize(
    "expression", ["{a='x'}", '{job="x"}', "mailweir_ready{a~b}", "sum by pool"]
)
def test_what_is_not_known_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"known|expected|without a metric"):
        asked(expression)
