"""What a process of another version left in the kernel can't be gone on with, and isn't lost: its
sessions go on by their own program, which is told of and removed in the end.
"""

from pathlib import Path

import pytest

from harness.mailweir.kernel_rig import Rig, kernel_rig, polite, rig_configuration, serving_there
from harness.mailweir.run import COMMAND
from harness.networks.row import pins, row
from harness.waiting import until

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


def test_they_go_on_beside_ours(tmp_path: Path) -> None:
    """Two ports there are, of which a session has one that nobody else is given."""
    config, before = rig_configuration(tmp_path, source_ports="10000-10001"), pins()
    with row() as networks, serving_there(networks, polite):
        with kernel_rig(networks, tmp_path, config) as rig:
            client = rig.client()
            client.expect("220")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            client.expect("250", "EHLO client.test")
            rig.balancer.process.kill()
        (folder,) = pins() - before
        # As if its tables were of another version.
        folder.rename(folder.with_name(f"mailweir-1-{folder.name.rpartition('-')[2]}"))
        with kernel_rig(networks, tmp_path, config) as rig, client:
            said = rig.balancer.command("status").stdout
            assert "1 flows of another version go on by themselves" in said
            assert rig.balancer.metric("mailweir_kernel_path_adopted_total") == 0
            assert [_path(rig, number) for number in (1, 2)] == ["kernel", "copy"]
            assert rig.relayed("no_port") == 1
            client.mail()
            rig.balancer.process.kill()
        status = _kernel_path(rig, "status")
        assert status.endswith("other places taken, 1 session of another version\n")
        assert _kernel_path(rig, "flush").startswith("removed, with ")
    assert pins() == before


def test_they_outlive_a_process_that_is_stopped(tmp_path: Path) -> None:
    config, before = rig_configuration(tmp_path), pins()
    with row() as networks, serving_there(networks, polite):
        with kernel_rig(networks, tmp_path, config) as rig:
            client = rig.client()
            client.expect("220")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            rig.balancer.process.kill()
        (folder,) = pins() - before
        old = folder.rename(folder.with_name(f"mailweir-1-{folder.name.rpartition('-')[2]}"))
        with kernel_rig(networks, tmp_path, config) as rig, client:
            rig.balancer.process.stop()
            assert pins() - before == {old}
            client.expect("250", "EHLO client.test")
            client.mail()
        _kernel_path(rig, "flush")
    assert pins() == before


def _path(rig: Rig, number: int) -> str:
    """Of one more session, whose place lingers."""
    with rig.client() as client:
        client.expect("220")
        client.mail()
    return str(rig.record(number)["path"])


def _kernel_path(rig: Rig, command: str) -> str:
    whole = [*map(str, COMMAND), "kernel-path", command, "-c", str(rig.balancer.file)]
    return rig.networks.run("l", *whole)


def test_the_next_process_removes_what_carries_nothing(tmp_path: Path) -> None:
    config, before = rig_configuration(tmp_path), pins()
    with row() as networks, serving_there(networks, polite):
        with kernel_rig(networks, tmp_path, config) as rig:
            rig.balancer.process.kill()
        (folder,) = pins() - before
        old = folder.with_name(f"mailweir-1-{folder.name.rpartition('-')[2]}")
        folder.rename(old)
        with kernel_rig(networks, tmp_path, config):
            until(lambda: not old.exists(), "it to be removed")
            assert folder.exists()
    assert pins() == before
