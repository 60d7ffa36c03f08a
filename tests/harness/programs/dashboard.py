"""Our dashboard for Grafana: its panels, and what they ask Prometheus."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[3] / "config/grafana/mailweir.json"
# What Grafana puts in the place of its own variables.
_STANDS_FOR = {"$__rate_interval": "5m", "$instance": ".*", "$pair": ".*"}


@dataclass(frozen=True)
class Query:
    """One of a panel, as Prometheus gets it."""

    panel: str
    expression: str
    legend: str


def board() -> dict[str, Any]:
    """All of it, as Grafana reads it."""
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def queries() -> list[Query]:
    """Those of all panels."""
    return [
        Query(panel["title"], _whole(target["expr"]), target.get("legendFormat", ""))
        for panel in board()["panels"]
        for target in panel.get("targets", ())
    ]


def _whole(expression: str) -> str:
    for name, value in _STANDS_FOR.items():
        expression = expression.replace(name, value)
    return expression
