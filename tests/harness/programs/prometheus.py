"""Debian's Prometheus: it scrapes what a test runs, by our rules at a pace for tests."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from harness.needs import program
from harness.networks.ports import SERVER_HOST, unused_port
from harness.process import Running, running
from harness.waiting import LIMIT

_PACE = "200ms"
# What `for` is in a copy of the rules: a few looks, so that an alert is pending before it fires.
_FOR = "500ms"


@dataclass(frozen=True)
class Prometheus:
    """One that runs, and what it can be asked."""

    process: Running
    address: str

    def firing(self) -> set[str]:
        """Alerts that fire now, by name."""
        alerts = self._ask("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    def targets(self) -> dict[str, str]:
        """How the last scrape of each job went."""
        found = self._ask("targets")["activeTargets"]
        return {one["labels"]["job"]: one["health"] for one in found}

    def values(self, expression: str) -> list[float]:
        """What an expression gives now. Fails where Prometheus doesn't take it."""
        found = self._ask("query", query=expression)["result"]
        return [float(one["value"][1]) for one in found]

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=LIMIT):
                return True
        except OSError:
            return False

    def _ask(self, what: str, **query: str) -> Any:
        url = f"http://{self.address}/api/v1/{what}?{urlencode(query)}"
        with urllib.request.urlopen(url, timeout=LIMIT) as answer:
            return json.load(answer)["data"]


@contextmanager
def prometheus(folder: Path, rules: Path, targets: dict[str, str]) -> Iterator[Prometheus]:
    """One that evaluates `rules`, sooner than these say, and scrapes `targets` by job."""
    told = folder / "prometheus.yml"
    told.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": _PACE, "evaluation_interval": _PACE},
                "rule_files": [str(_hurried(rules, folder))],
                "scrape_configs": [
                    {"job_name": job, "static_configs": [{"targets": [target]}]}
                    for job, target in targets.items()
                ],
            }
        )
    )
    address = f"{SERVER_HOST}:{unused_port()}"
    command = [
        program("prometheus"),
        f"--config.file={told}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
    ]
    with running(command, folder, "prometheus") as process:
        found = Prometheus(process, address)
        process.until(found.is_ready, "Prometheus to be ready")
        yield found


def _hurried(rules: Path, folder: Path) -> Path:
    """A copy whose alerts wait a moment instead of minutes."""
    told = yaml.safe_load(rules.read_text())
    for group in told["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = _FOR
    copy = folder / rules.name
    copy.write_text(yaml.safe_dump(told))
    return copy
