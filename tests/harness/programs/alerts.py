"""Our alerts for Prometheus, and which of them fire for what metrics are now, by promtool."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

FOLDER = Path(__file__).parents[3] / "config/prometheus"


def alerts_of(file: Path) -> list[dict[str, Any]]:
    """Its rules, as they stand there."""
    groups = yaml.safe_load(file.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def fired(rules: str, metrics: str, folder: Path) -> set[str]:
    """The alerts of a file that fire a minute on, if the metrics stay as they are."""
    file = FOLDER / rules
    alerts = alerts_of(file)
    asked = " ".join(rule["expr"] for rule in alerts)
    series = [
        {"series": _series(sample.name, sample.labels), "values": f"{sample.value}x10"}
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name in asked
    ]
    # That none fires is what is claimed.
    claims = [{"eval_time": "1m", "alertname": one["alert"], "exp_alerts": []} for one in alerts]
    test = {
        "rule_files": [str(file)],
        "evaluation_interval": "10s",
        "tests": [{"interval": "10s", "input_series": series, "alert_rule_test": claims}],
    }
    told = folder / "rules_test.json"
    told.write_text(json.dumps(test))
    done = subprocess.run(["promtool", "test", "rules", told], capture_output=True, text=True)
    said = done.stdout + done.stderr
    found = set(re.findall(r"alertname: (\w+), time: 1m", said))
    assert bool(found) == ("FAILED" in said) == (done.returncode != 0), said
    return found


def _series(name: str, labels: dict[str, str]) -> str:
    # Every value of ours is fit for JSON's quotes.
    told = ",".join(
        f"{key}={json.dumps(value)}" for key, value in {"instance": "i", **labels}.items()
    )
    return f"{name}{{{told}}}"
