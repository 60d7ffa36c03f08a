"""Thousands of idle sessions on the kernel path: what each takes, and that all are still there."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.machine.proc import descriptors, own_memory
from harness.mailweir.kernel_rig import PORT, kernel_rig, rig_configuration
from harness.networks.row import LISTENER, SERVER, row
from harness.scale import count
from harness.servers.crowd import crowd
from harness.servers.crowd_server import allow_descriptors
from harness.waiting import LIMIT, until

_FLOWS = count(1000, 10_000)
_USED = count(100, 1000)
# Few sessions don't fill the pages that they begin.
_MOST = count(1024, 512)  # bytes of the process's own memory each

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


def test_an_idle_flow_costs_next_to_nothing(tmp_path: Path, counted: Callable[[str], None]) -> None:
    allow_descriptors()
    config = rig_configuration(tmp_path)
    config["listeners"]["mx"]["timeouts"] = {"idle_client": "1h"}
    with row() as networks:
        there = networks.before("s")
        listen = (SERVER, PORT)
        with (
            crowd(tmp_path, "polite", listen=listen, before=there),
            kernel_rig(networks, tmp_path, config) as rig,
            ExitStack() as exits,
        ):
            # What is made at first use is there before it is counted.
            first = rig.client()
            first.expect("220")
            _mail(first)
            until(lambda: rig.balancer.status()["sessions"] == 0, "the first to end")
            assert rig.flows() == 0
            memory, opened = own_memory(rig.balancer.pid), len(descriptors(rig.balancer.pid))
            clients = networks.inside("c", _connect).result(LIMIT + _FLOWS / 50)
            for client in clients:
                exits.enter_context(client)
            until(lambda: rig.flows() == _FLOWS, "all to be flows")
            each = (own_memory(rig.balancer.pid) - memory) / _FLOWS
            # A flow's sockets are closed a moment after it is one.
            until(lambda: len(descriptors(rig.balancer.pid)) <= opened, "its sockets to be closed")
            for client in clients[:: _FLOWS // _USED]:
                _mail(client)
    counted(f"{_FLOWS} idle flows: {each:.0f} bytes of the process each, no descriptor")
    assert each < _MOST


def _connect() -> list[Client]:
    clients = []
    for _ in range(_FLOWS):
        client = Client((LISTENER, PORT))
        client.expect("220")
        clients.append(client)
    return clients


def _mail(client: Client) -> None:
    with client:
        client.expect("250", "EHLO client.test")
        client.mail()
