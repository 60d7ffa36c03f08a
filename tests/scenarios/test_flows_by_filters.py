"""The kernel path where the kernel has no links for programs (tcx, before 6.6): by filters."""

from pathlib import Path

import pytest

from harness.machine.sandbox import sandboxed
from harness.mailweir.kernel_rig import Rig, kernel_rig, polite, rig_configuration, serving_there
from harness.mailweir.run import COMMAND
from harness.networks.row import row
from harness.waiting import until

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")

# BPF_LINK_CREATE of linux/bpf.h.
_NO_LINKS = sandboxed("bpf:28=EINVAL")
# And BPF_LINK_UPDATE.
_NOR_UPDATES = sandboxed("bpf:28=EINVAL", "bpf:29=EINVAL")


def test_sessions_are_flows_and_outlive_the_process(tmp_path: Path) -> None:
    config = rig_configuration(tmp_path)
    with row() as networks, serving_there(networks, polite):
        with kernel_rig(networks, tmp_path, config, _NO_LINKS) as rig:
            assert _filters(rig) == [1, 1, 1, 1]
            client = rig.client()
            client.expect("220")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            client.expect("250", "EHLO client.test")
            rig.balancer.process.kill()
        client.expect("250", "NOOP")
        with kernel_rig(networks, tmp_path, config, _NO_LINKS) as rig:
            assert _filters(rig) == [1, 1, 1, 1], "in the place of the first ones"
            assert rig.balancer.metric("mailweir_kernel_path_adopted_total") == 1
            with client:
                client.mail()
            record = rig.record()
            assert (record["path"], record["end_reason"]) == ("kernel", "client_quit")
        assert _filters(rig) == [0, 0, 0, 0], "it ended as it should"


def test_they_can_be_removed(tmp_path: Path) -> None:
    config = rig_configuration(tmp_path)
    with row() as networks, serving_there(networks, polite):
        with kernel_rig(networks, tmp_path, config, _NO_LINKS) as rig:
            rig.balancer.process.kill()
        assert _filters(rig) == [1, 1, 1, 1]
        networks.run("l", *map(str, COMMAND), "kernel-path", "flush", "-c", str(rig.balancer.file))
        assert _filters(rig) == [0, 0, 0, 0]


@pytest.mark.parametrize("first", ["filters", "links"])
def test_what_an_earlier_process_attached_otherwise_goes(tmp_path: Path, first: str) -> None:
    """Never twice at one interface: segments would count twice."""
    config = rig_configuration(tmp_path)
    before, after = (_NO_LINKS, []) if first == "filters" else ([], _NOR_UPDATES)
    with row() as networks, serving_there(networks, polite):
        with kernel_rig(networks, tmp_path, config, before) as rig:
            client = rig.client()
            client.expect("220")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            rig.balancer.process.kill()
        with kernel_rig(networks, tmp_path, config, after) as rig:
            assert _filters(rig) == ([0] * 4 if first == "filters" else [1] * 4)
            with client:
                client.mail()
            with rig.client() as another:
                another.expect("220")
                another.mail()
            assert [rig.record(2)["path"], rig.relayed("busy")] == ["kernel", 0]
        assert _filters(rig) == [0, 0, 0, 0]


def _filters(rig: Rig) -> list[int]:
    """How many there are, on each way of both interfaces."""
    found = [
        rig.networks.run("l", "tc", "filter", "show", "dev", device, way)
        for device in ("clients", "servers")
        for way in ("ingress", "egress")
    ]
    return [shown.count("direct-action") for shown in found]
