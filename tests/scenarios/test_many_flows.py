"""As many flows at a time as descriptors of one process could never be: some are used, all stay."""

import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from harness.mailweir.kernel_rig import PORT, kernel_rig, rig_configuration
from harness.networks.row import LISTENER, row
from harness.process import Running, running
from harness.scale import count
from harness.servers.crowd import crowd
from harness.waiting import LIMIT, until
from scenarios import crowd_clients

_FLOWS = count(400, 50_000)
_USED = count(20, 500)

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


def test_many_flows_at_a_time(tmp_path: Path, counted: Callable[[str], None]) -> None:
    limit = LIMIT + _FLOWS / 200
    # Each is a program, as is a part of the clients, since they do have descriptors.
    servers = {name: f"10.2.0.{10 + part}:{PORT}" for part, name in enumerate("abcd")}
    config = rig_configuration(tmp_path)
    config["pools"]["farm"]["servers"] = servers
    config["listeners"]["mx"]["timeouts"] = {"idle_client": "1h"}
    with row() as networks, ExitStack() as exits:
        for part in range(len(servers)):
            folder = tmp_path / str(part)
            folder.mkdir()
            for network, subnet in (("c", 1), ("s", 2)):
                address = f"10.{subnet}.0.{10 + part}/24"
                networks.run(network, "ip", "address", "add", address, "dev", "balancer")
            listen = (f"10.2.0.{10 + part}", PORT)
            exits.enter_context(crowd(folder, "polite", listen=listen, before=networks.before("s")))
        with kernel_rig(networks, tmp_path, config) as rig:
            until(
                lambda: {one["state"] for one in rig.balancer.servers().values()} == {"up"},
                "all servers to be up",
            )
            with ExitStack() as sides:
                clients = []
                for part in range(len(servers)):
                    who = [f"10.1.0.{10 + part}", LISTENER, str(PORT)]
                    amount = [str(_FLOWS // len(servers)), str(_USED // len(servers))]
                    argv = [sys.executable, crowd_clients.__file__, *who, *amount]
                    argv = [*networks.before("c"), *argv]
                    clients.append(sides.enter_context(running(argv, tmp_path, f"clients{part}")))
                _all_say(clients, "greeted", limit)
                until(lambda: rig.flows() == _FLOWS, "all to be flows", limit=limit)
                assert rig.balancer.status()["sessions"] == _FLOWS
                for client in clients:
                    client.send(signal.SIGUSR1)
                _all_say(clients, "mailed", limit)
                until(lambda: rig.flows() == _FLOWS - _USED, "those that were used to end")
                quits = rig.balancer.ended("client_quit")
            until(lambda: rig.flows() == 0, "all to end", limit=limit)
            until(lambda: len(rig.balancer.session_log()) == _FLOWS, "all in the log", limit=limit)
            log = rig.balancer.session_log()
    counted(f"{_FLOWS} flows at a time, {_USED} mails on them: none lost")
    assert quits == _USED
    assert {line["path"] for line in log} == {"kernel"}
    assert {line["end_reason"] for line in log} == {"client_quit", "client_closed"}


def _all_say(clients: list[Running], word: str, limit: float) -> None:
    for client in clients:
        client.until(partial(_says, client, word), f"all to be {word}", limit=limit)


def _says(client: Running, word: str) -> bool:
    return word in client.out
