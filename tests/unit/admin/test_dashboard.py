"""The dashboard for Grafana: every query asks for what is exported, and Prometheus takes it."""

import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.programs.dashboard import Query, board, queries
from unit.admin.exported import exported
from unit.admin.test_alerts import is_exported

_LABELS = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_VARIABLE = re.compile(r"label_values\((\w+), (\w+)\)")


@pytest.mark.parametrize("query", queries(), ids=lambda one: f"{one.panel}: {one.legend}")
def test_a_query_asks_for_what_is_exported(query: Query) -> None:
    assert "$" not in query.expression
    assert set(_LABELS.findall(query.legend)) <= is_exported(query.expression)


def test_variables_are_of_what_is_exported() -> None:
    known = exported()
    asked = [one["definition"] for one in board()["templating"]["list"] if "definition" in one]
    assert len(asked) == 2
    for one in asked:
        found = _VARIABLE.fullmatch(one)
        assert found
        assert found[1] in known
        assert found[2] in ("job", "instance")


@pytest.mark.needs("prometheus")
def test_promtool_takes_every_expression(tmp_path: Path) -> None:
    rules = [
        {"record": f"dashboard:query:{number}", "expr": one.expression}
        for number, one in enumerate(queries())
    ]
    file = tmp_path / "dashboard.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_panels_have_titles_and_places_of_their_own() -> None:
    panels = board()["panels"]
    titles = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert titles == [
        "Is mail served?",
        "Sessions",
        "Servers",
        "Checks",
        "Limits and what is used of them",
        "Kernel path",
        "Pair",
        "The process itself",
    ]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] for panel in panels)
    for one, other in combinations(panels, 2):
        assert not _meet(one["gridPos"], other["gridPos"]), (one["title"], other["title"])
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def _meet(one: dict[str, Any], other: dict[str, Any]) -> bool:
    across = one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
    down = one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]
    return bool(across and down)
