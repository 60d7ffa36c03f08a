"""What a reload takes away is gone from the metrics, also what was counted of its checks."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from harness.clients.smtpload import Smtpload
from harness.mailweir.run import Mailweir, configuration
from harness.networks.ports import refusing
from harness.waiting import until
from scenarios.conftest import Start

_CHECK = {"every": "100ms", "fast": "100ms", "fall": 1, "rise": 1}
_GONE = ({"server": "b"}, {"server": "c"}, {"pool": "park"}, {"listener": "other"})


def test_a_reload_takes_metrics_away(tmp_path: Path, start: Start, smtpload: Smtpload) -> None:
    with smtpload.sink("server") as sink, refusing() as nobody:
        after = configuration(tmp_path, {"a": sink.addresses[0]}, check=_CHECK)
        before = configuration(tmp_path, {"a": sink.addresses[0], "b": nobody}, check=_CHECK)
        before["listeners"]["other"] = {"bind": ["127.0.0.1:0"], "pool": "park"}
        servers = {"c": {"address": nobody, "proxy": "off"}}
        before["pools"]["park"] = {"servers": servers, "check": _CHECK}
        balancer = start(before)
        failed = {("mailweir_check_failures_total", name) for name in ("b", "c")}
        until(lambda: failed <= _names(balancer, {}), "checks to fail")
        a, mx = (_names(balancer, labels) for labels in ({"server": "a"}, {"listener": "mx"}))
        assert all(_names(balancer, labels) for labels in _GONE)

        balancer.change(after)
        assert [_names(balancer, labels) for labels in _GONE] == [set()] * len(_GONE)
        assert _names(balancer, {"server": "a"}) == a
        assert _names(balancer, {"listener": "mx"}) == mx
        checks = _checks(balancer)
        until(lambda: _checks(balancer) > checks, "the checks of what stays to go on")


def _checks(balancer: Mailweir) -> float:
    return balancer.metric("mailweir_check_duration_seconds_count", pool="farm")


def _names(balancer: Mailweir, labels: dict[str, str]) -> set[tuple[str, str | None]]:
    """Of all samples with these labels, each with its server if it has one."""
    return {
        (sample.name, sample.labels.get("server"))
        for family in text_string_to_metric_families(balancer.page("/metrics"))
        for sample in family.samples
        if labels.items() <= sample.labels.items()
    }
