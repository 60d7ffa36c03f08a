"""Postfix's own load test through mailweir: no errors, and sessions split by the weights."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.mailweir.run import configuration
from harness.needs import program
from harness.process import run
from harness.programs.postfix import smtp_sink
from scenarios.conftest import Start

_SESSIONS = 5000
_PARALLEL = 50
_WEIGHTS = {"a": 100, "b": 50}
_TOLERANCE = 0.02


@pytest.mark.needs("postfix")
def test_sessions_split_by_weight(
    tmp_path: Path, start: Start, counted: Callable[[str], None]
) -> None:
    with smtp_sink(tmp_path, "a") as a, smtp_sink(tmp_path, "b") as b:
        servers = {
            name: {"address": address, "weight": _WEIGHTS[name]}
            for name, address in (("a", a), ("b", b))
        }
        balancer = start(configuration(tmp_path, servers, balance="round_robin"))
        # smtp-source makes one session per message.
        load = ["-s", str(_PARALLEL), "-m", str(_SESSIONS)]
        to = "inet:{}:{}".format(*balancer.address())
        source = run([program("smtp-source"), *load, to], limit=60)

        assert (source.returncode, source.stdout, source.stderr) == (0, "", "")
        answer = json.loads(balancer.command("servers", "--json").stdout)
        got = {server["name"]: server["sessions"] for server in answer["servers"]}
        counted(f"{_SESSIONS} sessions, {_PARALLEL} parallel, split {got}")
        assert sum(got.values()) == _SESSIONS
        for name, weight in _WEIGHTS.items():
            share = _SESSIONS * weight / sum(_WEIGHTS.values())
            assert abs(got[name] - share) <= _TOLERANCE * share
        assert not any(server["connect_failures"] for server in answer["servers"])
