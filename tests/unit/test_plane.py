"""What is handed to the extension, and its errors made ours."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from mailweir import plane
from mailweir.config.words import Balance, Protocol
from mailweir.errors import PlaneError
from mailweir.spec import DesiredState, ServerKey
from mailweir.state.desired import Health, fold
from mailweir.state.overrides import Overrides, Word
from unit.fakes import MINIMAL, NOTHING_SAID, ROOM, config

FULL = """\
listeners:
  mx:
    bind: ["192.0.2.1:25"]
    pool: farm
    allow: [10.0.0.0/8, "2001:db8::/32"]
    deny: [10.1.0.0/16]
    refuse: reset
    limits:
      per_source:
        {sessions: 20, rate: 100/min, burst: 30, prefix4: 24, prefix6: 56, exempt: ["::1"]}
      dry_run: [source_rate]
  open: {bind: ["192.0.2.1:26"], pool: other}
pools:
  farm:
    balance: maglev
    hash_key: {prefix4: 16, prefix6: 48, seed: ours}
    sticky: {ttl: 1h}
    slow_start: 90s
    queue: {length: 5, wait: 1500ms}
    servers:
      a: 10.0.0.1:25
      b: {address: 10.0.0.2:25, max_sessions: 3, backup: true}
  other: {servers: {a: 10.0.0.1:25}}
"""


def desired(text: str = MINIMAL, overrides: Overrides = NOTHING_SAID) -> DesiredState:
    health = {ServerKey("farm", "a"): Health.DOWN}
    return fold(config(text), health, overrides, hostname="lb1", room=ROOM)


class Extension:
    """In the place of the extension: keeps the specification it is to check."""

    spec: Any

    def check(self, *, spec: bytes) -> None:
        self.spec = json.loads(spec)


def test_everything_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    extension = Extension()
    monkeypatch.setattr(plane, "_dataplane", extension)
    plane.check(desired(FULL, Overrides(denied={"192.0.2.0/24": Word(by="root", at=0.0)})))
    assert extension.spec["denied"] == ["192.0.2.0/24"]
    mx, other = extension.spec["listeners"]
    assert mx["access"] == {
        "allow": ["10.0.0.0/8", "2001:db8::/32"],
        "deny": ["10.1.0.0/16"],
        "admits_others": False,
        "deny_code": 554,
    }
    assert (mx["refuse"], mx["dry_run"]) == ("reset", ["source_rate"])
    assert mx["per_source"] == {
        "source": {"prefix4": 24, "prefix6": 56},
        "sessions": 20,
        "rate": {"count": 100, "period": 60.0, "burst": 30},
        "exempt": ["::1/128"],
    }
    assert (other["access"]["allow"], other["access"]["deny"], other["refuse"]) == ([], [], "reply")
    assert (other["per_source"], other["dry_run"]) == (None, [])
    farm, pool = extension.spec["pools"]
    assert farm["hash_key"] == {"source": {"prefix4": 16, "prefix6": 48}, "seed": "ours"}
    assert farm["sticky"] == {"source": {"prefix4": 24, "prefix6": 64}, "ttl": 3600.0}
    assert (farm["slow_start"], farm["queue"]) == (90.0, {"length": 5, "wait": 1.5})
    assert [(one["name"], one["state"], one["backup"]) for one in farm["servers"]] == [
        ("a", "panic", False),
        ("b", "down", True),
    ]
    assert (pool["sticky"], pool["queue"], pool["slow_start"]) == (None, None, 60.0)


def test_the_extension_takes_what_the_configuration_can_say() -> None:
    for balance in Balance:
        for protocol in Protocol:
            text = MINIMAL.replace("pool: farm\n", f"pool: farm\n    protocol: {protocol}\n", 1)
            text = text.replace("farm:\n", f"farm:\n    balance: {balance}\n")
            plane.check(desired(text))
    plane.check(desired(FULL))


def test_a_contradiction_is_a_plane_error() -> None:
    without_pools = replace(desired(), pools=())
    with pytest.raises(PlaneError, match="farm"):
        plane.check(without_pools)
