"""The exposition: names, values, and what a scrape costs in readings."""

import subprocess
from collections.abc import Sequence
from dataclasses import replace

import pytest
from msgspec import structs

from mailweir.admin.exposition import encode
from mailweir.admin.metrics import Metrics
from mailweir.admin.scraping import tables
from mailweir.config.model import MAIN_CHECK
from mailweir.faults import Faults
from mailweir.reload import ReloadOutcome
from mailweir.situation import Situation
from mailweir.spec import ServerKey
from mailweir.state.desired import Health
from mailweir.stats import KernelPathStats, NoKernelPath, ServerStats
from unit import figures
from unit.admin import scraped
from unit.admin.situations import busy, situation

A = ServerKey("farm", "a")


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics(Faults(), version="1.2.3", started=900.0)
    made.keep({A})
    made.loaded(ReloadOutcome(True, 1, "", 901.0))
    checked(made, A, "", 0.02)
    checked(made, A, "greeting", 15.0)
    made.transition(A)
    made.reloaded(ReloadOutcome(False, 1, "", 950.0))
    return made


def checked(metrics: Metrics, key: ServerKey, step: str, seconds: float) -> None:
    metrics.checked(
        key,
        MAIN_CHECK,
        verdict=Health.DOWN if step else Health.UP,
        failed_step=step,
        seconds=seconds,
        alarm=bool(step),
        certificate_end=None,
    )


def text(metrics: Metrics, now: Situation) -> bytes:
    return encode(metrics.registry, *tables(now))


def samples(metrics: Metrics) -> dict[str, float]:
    now = situation()
    servers = [structs.replace(one, times=figures.TIMES) for one in now.servers]
    return scraped.samples(text(metrics, replace(now, read_servers=lambda: servers)))


def samples_of(now: Situation) -> dict[str, float]:
    """Nothing was counted yet."""
    return scraped.samples(text(Metrics(Faults(), version="1.2.3", started=900.0), now))


def test_values(metrics: Metrics) -> None:
    found = samples(metrics)
    expected = {
        "mailweir_listener_connections_total{listener=mx}": 7,
        "mailweir_listener_connections_active{listener=mx}": 1,
        "mailweir_listener_connections_ended_total{listener=mx,reason=client_closed}": 6,
        "mailweir_listener_connections_ended_total{listener=mx,reason=refused}": 0,
        "mailweir_listener_received_bytes_total{listener=mx}": 100,
        "mailweir_listener_session_seconds_bucket{le=0.1,listener=mx}": 1,
        "mailweir_listener_session_seconds_bucket{le=1.0,listener=mx}": 3,
        "mailweir_listener_session_seconds_bucket{le=+Inf,listener=mx}": 6,
        "mailweir_listener_session_seconds_count{listener=mx}": 6,
        "mailweir_listener_session_seconds_sum{listener=mx}": 4.5,
        "mailweir_server_sessions_total{pool=farm,server=a}": 3,
        "mailweir_server_sessions_ended_total{pool=farm,reason=client_quit,server=a}": 2,
        "mailweir_server_session_seconds_count{pool=farm,server=a}": 2,
        "mailweir_server_session_seconds_sum{pool=farm,server=a}": 7.5,
        "mailweir_server_weight{pool=farm,server=a}": 100,
        "mailweir_server_state{pool=farm,server=a,state=up}": 1,
        "mailweir_server_state{pool=farm,server=a,state=down}": 0,
        "mailweir_server_state{pool=farm,server=b,state=down}": 1,
        "mailweir_server_connect_failures_total{pool=farm,reason=refused,server=a}": 1,
        "mailweir_server_greeting_failures_total{pool=farm,reason=4xx,server=a}": 2,
        "mailweir_server_greeting_seconds_count{pool=farm,server=a}": 6,
        "mailweir_pool_servers{pool=farm,state=up}": 1,
        "mailweir_pool_servers{pool=farm,state=down}": 1,
        "mailweir_relay_spliced_bytes_total{}": 2,
        "mailweir_relay_pipe_fallbacks_total{}": 0,
        "mailweir_relay_pipe_budget{}": 288,
        "mailweir_session_log_lines_total{}": 5,
        "mailweir_worker_lag_seconds{worker=1}": 0.5,
        "mailweir_max_sessions{}": 9000,
        "mailweir_session_room{}": 9000,
        "mailweir_session_room_taken{}": 4,
        "mailweir_check_duration_seconds_count{pool=farm}": 2,
        "mailweir_check_failures_total{pool=farm,server=a,step=greeting}": 1,
        "mailweir_server_transitions_total{pool=farm,server=a}": 1,
        "mailweir_config_generation{}": 1,
        "mailweir_config_last_reload_success{}": 0,
        "mailweir_config_last_reload_timestamp_seconds{}": 901,
        "mailweir_config_reloads_total{}": 1,
        "mailweir_config_reload_failures_total{}": 1,
        "mailweir_build_info{version=1.2.3}": 1,
        "mailweir_start_time_seconds{}": 900,
    }
    assert {name: found.get(name) for name in expected} == expected


def test_limits_queues_and_panic() -> None:
    found = samples_of(busy())
    expected = {
        "mailweir_listener_connections_ended_total{listener=mx,reason=denied}": 9,
        "mailweir_listener_would_refuse_total{limit=access,listener=mx}": 0,
        "mailweir_listener_would_refuse_total{limit=source_rate,listener=mx}": 4,
        "mailweir_listener_sources{listener=mx}": 5,
        "mailweir_listener_source_places{listener=mx}": 8,
        "mailweir_listener_sources_evicted_total{listener=mx}": 3,
        "mailweir_listener_sources_untracked_total{listener=mx}": 1,
        "mailweir_pool_waiting{pool=farm}": 6,
        "mailweir_pool_queued_total{pool=farm}": 19,
        "mailweir_pool_queue_ends_total{end=timeout,pool=farm}": 2,
        "mailweir_pool_queue_seconds_count{pool=farm}": 6,
        "mailweir_pool_overflowing{pool=farm}": 1,
        "mailweir_pool_overflows_total{pool=farm}": 2,
        "mailweir_pool_overflowed_sessions_total{pool=farm,to=spare}": 7,
        "mailweir_pool_sticky_entries{pool=farm}": 4,
        "mailweir_pool_sticky_found_total{pool=farm}": 30,
        "mailweir_pool_sticky_made_total{pool=farm}": 6,
        "mailweir_pool_sticky_broken_total{pool=farm}": 2,
        "mailweir_pool_sticky_evicted_total{pool=farm}": 0,
        "mailweir_pool_panic{pool=farm}": 1,
        "mailweir_pool_servers{pool=farm,state=panic}": 1,
        "mailweir_server_state{pool=farm,server=c,state=panic}": 1,
        "mailweir_server_ramp{pool=farm,server=a}": 0.358,
    }
    assert {name: found.get(name) for name in expected} == expected


def test_what_is_not_limited_has_no_sources(metrics: Metrics) -> None:
    found = samples(metrics)
    assert found["mailweir_pool_panic{pool=farm}"] == 0
    assert found["mailweir_server_ramp{pool=farm,server=a}"] == 1
    assert not [name for name in found if "source" in name and "would_refuse" not in name]
    assert not [name for name in found if "sticky" in name]


def test_a_good_reload_says_so(metrics: Metrics) -> None:
    metrics.reloaded(ReloadOutcome(True, 2, "", 960.0))
    found = samples(metrics)
    assert found["mailweir_config_generation{}"] == 2
    assert found["mailweir_config_last_reload_success{}"] == 1
    assert found["mailweir_config_last_reload_timestamp_seconds{}"] == 960


@pytest.mark.parametrize(
    ("path", "why_not", "up", "outlives"),
    [
        (None, None, None, None),
        (None, figures.NO_KERNEL_PATH, 0, None),
        (figures.KERNEL_PATH, None, 1, 1),
        (structs.replace(figures.KERNEL_PATH, ends_with_process="no room"), None, 1, 0),
    ],
)
def test_the_kernel_path_where_it_is_wanted(
    path: KernelPathStats | None, why_not: NoKernelPath | None, up: int | None, outlives: int | None
) -> None:
    stats = structs.replace(busy().stats, kernel_path=path, no_kernel_path=why_not)
    found = samples_of(replace(busy(), stats=stats))
    assert found.get("mailweir_kernel_path_up{}") == up
    assert found.get("mailweir_kernel_path_outlives_process{}") == outlives
    why = found.get("mailweir_kernel_path_missing{reason=refused}")
    assert why == (1 if why_not else None)


def test_what_is_gone_is_not_scraped(metrics: Metrics) -> None:
    other, third = ServerKey("farm", "b"), ServerKey("park", "a")
    metrics.keep({A, other, third})
    for key in (other, third):
        checked(metrics, key, "connect", 0.1)
        metrics.transition(key)
        metrics.trouble(key)
        metrics.ejected(key, "share")
    metrics.failing = {"farm": 1, "park": 2}
    for labels in (("pool=farm", "server=b"), ("pool=park", "server=a")):
        assert len(_counted(metrics, *labels)) == 6
    metrics.keep({A})
    # Some come late, of sessions that went on.
    metrics.trouble(other)
    metrics.ejected(other, "share")
    checked(metrics, third, "connect", 0.1)
    assert _counted(metrics, "server=b") == _counted(metrics, "pool=park") == {}
    # What stays has what it had.
    found = _counted(metrics, "pool=farm")
    assert found["mailweir_check_failures_total{pool=farm,server=a,step=greeting}"] == 1
    assert found["mailweir_server_transitions_total{pool=farm,server=a}"] == 1
    assert found["mailweir_check_duration_seconds_count{pool=farm}"] == 3
    assert found["mailweir_pool_failing_servers{pool=farm}"] == 1


def _counted(metrics: Metrics, *labels: str) -> dict[str, float]:
    """What Python counts."""
    names = ("mailweir_check_", "mailweir_server_tr", "mailweir_server_ej", "mailweir_pool_failing")
    found = samples(metrics).items()
    return {
        name: n
        for name, n in found
        if name.startswith(names) and all(one in name for one in labels)
    }


def test_what_dashboards_know_stays(metrics: Metrics) -> None:
    """A row that goes, or has another name or label, is somebody's alert that says nothing any
    more. One that comes needs no line there.
    """
    stats = structs.replace(busy().stats, kernel_path=figures.KERNEL_PATH)
    metrics.trouble(A)
    found = scraped.told(text(metrics, replace(busy(), stats=stats)))
    assert scraped.known("metrics.txt") <= found


def test_servers_are_read_once(metrics: Metrics) -> None:
    """Reading thousands takes as long as a tenth of a scrape."""
    now, readings = busy(), list[int]()

    def read() -> Sequence[ServerStats]:
        readings.append(1)
        return now.servers

    text(metrics, replace(now, read_servers=read))
    assert readings == [1]


def test_what_is_described_is_what_is_scraped() -> None:
    stats = structs.replace(busy().stats, kernel_path=figures.KERNEL_PATH)
    for table in tables(replace(busy(), stats=stats)):
        described = {metric.name: metric.documentation for metric in table.describe()}
        assert described == {metric.name: metric.documentation for metric in table.collect()}
        assert all(described.values())


@pytest.mark.needs("prometheus")
def test_promtool_has_nothing_to_say(metrics: Metrics) -> None:
    told = text(metrics, busy())
    done = subprocess.run(["promtool", "check", "metrics"], input=told, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
