"""A session that went to another pool is in the kernel like any other, and the process that goes on
with it knows where it came from.
"""

from pathlib import Path

import pytest

from harness.mailweir.kernel_rig import PORT, kernel_rig, polite, rig_configuration, serving_there
from harness.networks.row import SERVER, row
from harness.waiting import until

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


def test_it_is_a_flow_and_outlives_the_process(tmp_path: Path) -> None:
    config = rig_configuration(tmp_path)
    spare = config["pools"]["farm"]
    # Nobody listens there.
    dead = {"a": {"address": f"{SERVER}:{PORT + 1}", "proxy": "off"}}
    config["pools"] = {"farm": {**spare, "servers": dead, "overflow": ["spare"]}, "spare": spare}
    with row() as networks, serving_there(networks, polite):
        with kernel_rig(networks, tmp_path, config) as rig:
            client = rig.client()
            client.expect("220")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            (session,) = rig.sessions()
            assert (session["pool"], session["server"]) == ("spare", "a")
            rig.balancer.process.kill()
        with kernel_rig(networks, tmp_path, config) as rig:
            with client:
                (adopted,) = rig.sessions()
                assert (adopted["id"], adopted["pool"]) == (session["id"], "spare")
                client.expect("221", "QUIT")
            record = rig.record()
            assert record["path"] == "kernel"
            assert (record["pool"], record["server"]) == ("spare", "a")
            assert record["overflow_of"] == "farm"
