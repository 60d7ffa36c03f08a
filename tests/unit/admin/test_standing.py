"""Readiness and limits as they are scraped."""

from dataclasses import replace

import pytest
from msgspec import structs
from prometheus_client import CollectorRegistry

from mailweir.admin.exposition import Table, encode
from mailweir.admin.standing import STANDING
from mailweir.config.kinds import Part
from mailweir.situation import Situation
from unit import figures
from unit.admin import scraped
from unit.admin.conftest import Client
from unit.admin.exported import exported
from unit.admin.situations import FakeBalancer, busy, situation
from unit.fakes import MINIMAL

_LIMITED = """\
max_sessions: 500
listeners:
  mx:
    bind: ["192.0.2.1:25"]
    pool: farm
    max_age: 1h
    limits: {sessions: 300, per_source: {sessions: 20}}
  other:
    bind: ["192.0.2.1:2525"]
    pool: farm
pools:
  farm:
    queue: {length: 50}
    outlier: {max_ejected: 25%}
    servers:
      a: {address: 10.0.0.1:25, max_sessions: 40}
      b: 10.0.0.2:25
  spare:
    outlier: none
    servers: {s: 10.0.0.3:25}
"""


# Every key that is a limit, and the metric that has it.
_LIMITS = {
    "Config.max_sessions": "mailweir_max_sessions",
    "Config.max_flows": "mailweir_kernel_path_max_flows",
    "Listener.max_age": "mailweir_listener_max_age_seconds",
    "Limits.sessions": "mailweir_listener_max_sessions",
    "PerSource.sessions": "mailweir_listener_max_sessions_per_source",
    "Queue.length": "mailweir_pool_max_waiting",
    "Outlier.max_ejected": "mailweir_pool_max_ejected_ratio",
    "Server.max_sessions": "mailweir_server_max_sessions",
}
_SPELT_OTHERWISE = {"Limits.sessions", "PerSource.sessions", "Queue.length"}


def samples(now: Situation) -> dict[str, float]:
    return scraped.samples(encode(CollectorRegistry(), Table(STANDING, lambda: now)))


async def test_ready_is_what_the_probe_says(readable: Client, balancer: FakeBalancer) -> None:
    for up, ready in (("a", 1), ("", 0), ("b", 1)):
        balancer.now = situation(up=up)
        found = scraped.samples(await (await readable.get("/metrics")).read())
        assert found["mailweir_ready{}"] == ready
        assert (await readable.get("/readyz")).status == (200 if ready else 503)


def test_limits_that_are_set() -> None:
    found = samples(situation(text=_LIMITED))
    assert {name: n for name, n in found.items() if "_max_" in name} == {
        "mailweir_listener_max_sessions{listener=mx}": 300,
        "mailweir_listener_max_sessions_per_source{listener=mx}": 20,
        "mailweir_listener_max_age_seconds{listener=mx}": 3600,
        "mailweir_pool_max_waiting{pool=farm}": 50,
        "mailweir_pool_max_ejected_ratio{pool=farm}": 0.25,
        "mailweir_server_max_sessions{pool=farm,server=a}": 40,
    }


def test_limits_that_are_not_set_have_no_sample() -> None:
    found = [name for name in samples(situation()) if "_max_" in name]
    assert found == ["mailweir_pool_max_ejected_ratio{pool=farm}"]


@pytest.mark.parametrize(("text", "counted"), [(MINIMAL, 3), (f"max_sessions: 9\n{MINIMAL}", 10)])
def test_sessions_in_the_kernel_count_where_a_limit_is_written(text: str, counted: int) -> None:
    """`auto` is what descriptors and memory are enough for, of which a flow takes nothing."""
    stats = structs.replace(busy().stats, active=10, kernel_path=figures.KERNEL_PATH)
    assert figures.KERNEL_PATH.flows == 7
    now = replace(situation(text=text), stats=stats)
    assert samples(now)["mailweir_sessions_counted{}"] == counted


def test_every_limit_has_a_metric() -> None:
    keys = {
        f"{model.__name__}.{key}"
        for model in Part.__subclasses__()
        for key in model.model_fields
        if key.startswith("max_")
    }
    assert keys | _SPELT_OTHERWISE == _LIMITS.keys()
    assert set(_LIMITS.values()) <= exported().keys()
