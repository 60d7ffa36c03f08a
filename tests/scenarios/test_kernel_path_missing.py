"""The kernel path is wanted and can't be had, here for want of rights: `status`, the page, metrics
and alerts say so for as long as it is so, not only the log at the start.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.machine.sandbox import sandboxed
from harness.mailweir.run import Mailweir, Tree, configuration
from harness.networks.own import own_network
from harness.programs.alerts import fired
from scenarios.conftest import Start

pytestmark = pytest.mark.needs("iproute2", "prometheus")

_NO_PATH, _REFUSED = "MailweirNoKernelPath", "MailweirReloadRefused"
_WHY = "no kernel path, sessions take the relay: the kernel refuses it"


def test_where_it_is_left_to_the_machine(tmp_path: Path, start: Start) -> None:
    with _running(tmp_path, start, "auto") as balancer:
        for _ in range(2):
            _says_that_there_is_none(balancer, tmp_path)
            balancer.change(_configuration(tmp_path, "relay"))
            assert balancer.status()["kernel_path"] is None
            assert "no kernel path" not in balancer.page("/").lower()
            assert _alerts(balancer, tmp_path) == set()
            balancer.change(_configuration(tmp_path, "auto"))


def test_a_reload_that_insists_on_it(tmp_path: Path, start: Start) -> None:
    """It is refused, and that stays to be seen until a reload isn't."""
    with _running(tmp_path, start, "relay") as balancer:
        assert _alerts(balancer, tmp_path) == set()
        balancer.write(_configuration(tmp_path, "kernel"))
        done = balancer.command("reload")
        assert done.returncode == 1
        why = "forwarding: kernel: the kernel refuses it"
        assert why in done.stderr
        assert f"last load: REFUSED: {why}" in balancer.command("status").stdout
        assert f"last load: REFUSED: {why}" in balancer.page("/")
        assert _alerts(balancer, tmp_path) == {_REFUSED}
        # It isn't what runs.
        assert balancer.status()["kernel_path"] is None
        balancer.write(_configuration(tmp_path, "auto"))
        assert balancer.command("reload").returncode == 0
        _says_that_there_is_none(balancer, tmp_path)


def _says_that_there_is_none(balancer: Mailweir, folder: Path) -> None:
    assert f"\n{_WHY}" in balancer.command("status").stdout
    assert _WHY in balancer.page("/")
    assert balancer.metric("mailweir_kernel_path_up") == 0
    assert balancer.metric("mailweir_kernel_path_missing", reason="refused") == 1
    assert _alerts(balancer, folder) == {_NO_PATH}


def _alerts(balancer: Mailweir, folder: Path) -> set[str]:
    found = fired("mailweir.rules.yml", balancer.page("/metrics"), folder)
    # Its server isn't there.
    assert {"MailweirNoServerUp", "MailweirNotReady"} <= found
    return found - {"MailweirNoServerUp", "MailweirNotReady", "MailweirPoolPanic"}


def _configuration(directory: Path, forwarding: str) -> Tree:
    config = configuration(directory, {"a": "192.0.2.1:25"}, forwarding=forwarding)
    config["listeners"]["mx"]["bind"] = ["0.0.0.0:2525"]
    return config


@contextmanager
def _running(directory: Path, start: Start, forwarding: str) -> Iterator[Mailweir]:
    with own_network():
        yield start(_configuration(directory, forwarding), sandboxed(powerless=True))
