"""A user of its own, as in the unit for systemd: not root, five capabilities, and a BPF file system
that is root's alone outside. All works so: ports below 1024, the kernel path, and sessions in the
kernel that outlive the process. `mailweir kernel-path`, which root runs, finds them.
"""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.mailweir.kernel_rig import kernel_rig, polite, rig_configuration, serving_there
from harness.mailweir.run import COMMAND
from harness.networks.row import LISTENER, row
from harness.process import run
from harness.waiting import until
from scenarios.own_user import USER, as_its_unit

pytestmark = pytest.mark.needs("iproute2", "nftables")

_SESSIONS = 5


def test_sessions_outlive_the_process(tmp_path: Path) -> None:
    config = rig_configuration(tmp_path)
    config["listeners"]["low"] = {"bind": [f"{LISTENER}:25"], "pool": "farm"}
    with ExitStack() as exits:
        networks = exits.enter_context(row())
        exits.enter_context(serving_there(networks, polite))
        unit = exits.enter_context(as_its_unit("mailweir.service", tmp_path))
        with kernel_rig(networks, tmp_path, config, unit) as rig:
            assert os.stat(f"/proc/{rig.balancer.pid}").st_uid == USER
            assert (
                "CapEff:\t000000c000003400" in Path(f"/proc/{rig.balancer.pid}/status").read_text()
            )
            assert rig.balancer.metric("mailweir_kernel_path_outlives_process") == 1
            clients = [exits.enter_context(rig.client()) for _ in range(_SESSIONS)]
            for client in clients:
                client.expect("220")
            until(lambda: rig.flows() == _SESSIONS, "all to be flows")
            rig.balancer.process.kill()
        for client in clients:
            client.expect("250", "EHLO client.test")
        seen_by_root = unit[: unit.index("sh")]
        done = run([*seen_by_root, *COMMAND, "kernel-path", "status", "-c", str(rig.balancer.file)])
        assert f"{_SESSIONS} sessions" in done.stdout, done
        with kernel_rig(networks, tmp_path, config, unit) as rig:
            assert rig.balancer.metric("mailweir_kernel_path_adopted_total") == _SESSIONS
            for client in clients:
                client.expect("221", "QUIT")
                client.close()
            until(lambda: len(rig.balancer.session_log()) == _SESSIONS, "all in the log")
            assert {one["path"] for one in rig.balancer.session_log()} == {"kernel"}
