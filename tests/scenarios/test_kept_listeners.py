"""A supervisor keeps the listening sockets: who comes between two processes waits, and is served.

What was said to the first process counts in the next one, and so does what it left in the kernel.
"""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.clients.smtpload import Smtpload
from harness.mailweir.kernel_rig import PORT, kernel_rig
from harness.mailweir.replaced import farm_configuration, farm_of_two
from harness.mailweir.run import Tree
from harness.networks.row import LISTENER, SERVER, Row
from harness.programs.supervisor import Supervisor, supervisor
from harness.scale import count
from harness.waiting import LIMIT, until

_KILLS = count(3, 30)
_RATE = 200  # new sessions each second
_OTHER = (LISTENER, PORT + 1)
_DEAD = f"{SERVER}:{PORT + 2}"

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


def _configuration(directory: Path, **more: object) -> Tree:
    """With a third server, at whose address nobody is."""
    config = farm_configuration(directory, **more)
    config["pools"]["farm"]["servers"]["dead"] = {"address": _DEAD, "proxy": "off"}
    return config


def test_kills_refuse_nobody(
    tmp_path: Path, smtpload_binary: Path, counted: Callable[[str], None]
) -> None:
    config = _configuration(tmp_path)
    seconds: list[float] = []
    with farm_of_two(tmp_path, smtpload_binary) as networks, supervisor(tmp_path) as systemd:
        clients = Smtpload(smtpload_binary, tmp_path, networks.before("c"))
        with kernel_rig(networks, tmp_path, config, systemd.before()) as rig:
            systemd.until(lambda said: "READY=1" in said)
            assert rig.balancer.command("drain", "farm/b").returncode == 0
            lasting = rig.client()
            lasting.expect("220")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            rig.balancer.process.kill()
        options = (f"--rate={_RATE}", "--concurrency=200", f"--duration={2 * _KILLS + 2}s")
        with clients.source("load", (LISTENER, PORT), *options) as load:
            for _ in range(_KILLS):
                seconds.append(_begins_again(networks, tmp_path, config, systemd))
                lasting.expect("250", "NOOP")
            with kernel_rig(networks, tmp_path, config, systemd.before()):
                sent = load.sent(limit=LIMIT + 2 * _KILLS)
            lasting.close()
    counted(
        f"{_KILLS} kills: {sent.ok} sessions fine, failed: {sent.failures or 0};"
        f" greeted {max(seconds):.2f} s after the next start at most"
    )
    assert sent.ok > _RATE
    # A session that wasn't handed over yet goes with its process; nobody is refused.
    assert "connect" not in sent.failures


def _begins_again(networks: Row, directory: Path, config: Tree, systemd: Supervisor) -> float:
    """A process that begins where a killed one was; killed as well. After how many seconds a
    client was greeted that was there before it.
    """
    waiting = networks.inside("c", lambda: Client((LISTENER, PORT))).result(LIMIT)
    began = time.monotonic()
    with ThreadPoolExecutor(1) as beside:
        greeted = beside.submit(_greeted_at, waiting)
        with kernel_rig(networks, directory, config, systemd.before()) as rig:
            took = greeted.result(LIMIT) - began
            rows = rig.balancer.servers()
            states = {name: one["state"] for name, one in rows.items()}
            assert states == {"a": "up", "b": "drain", "dead": "down"}
            assert (rows["b"]["sessions"], rows["dead"]["connect_failures"]) == (0, 0)
            assert rig.balancer.metric("mailweir_kernel_path_adopted_total") >= 1
            systemd.until(lambda said: "READY=1" in said)
            rig.balancer.process.kill()
    waiting.close()
    return took


def _greeted_at(client: Client) -> float:
    client.expect("220")
    return time.monotonic()


def test_a_short_drain_refuses_nobody(tmp_path: Path, smtpload_binary: Path) -> None:
    config = _configuration(tmp_path, drain={"deadline": "0s"}, forwarding="relay")
    with farm_of_two(tmp_path, smtpload_binary) as networks, supervisor(tmp_path) as systemd:
        with kernel_rig(networks, tmp_path, config, systemd.before()) as rig:
            systemd.until(lambda said: "READY=1" in said)
            rig.balancer.process.send(signal.SIGTERM)
            assert rig.balancer.process.wait() == 0
            waiting = rig.client()
        with waiting, kernel_rig(networks, tmp_path, config, systemd.before()):
            waiting.expect("220")


def test_a_long_drain_refuses_at_once(tmp_path: Path, smtpload_binary: Path) -> None:
    """A client that would have to wait for half an hour had better try another host."""
    config = _configuration(tmp_path, forwarding="relay")
    with farm_of_two(tmp_path, smtpload_binary) as networks, supervisor(tmp_path) as systemd:
        with kernel_rig(networks, tmp_path, config, systemd.before()) as rig:
            systemd.until(lambda said: "READY=1" in said)
            with rig.client() as lasting:
                lasting.expect("220")
                rig.balancer.process.send(signal.SIGTERM)
                systemd.until(lambda said: any("FDSTOREREMOVE" in line for line in said))
                with pytest.raises(ConnectionRefusedError):
                    rig.client()
                lasting.expect("221", "QUIT")
            assert rig.balancer.process.wait() == 0
        assert systemd.kept() == []


def test_a_listener_that_left_is_not_kept(tmp_path: Path, smtpload_binary: Path) -> None:
    config = _configuration(tmp_path, forwarding="relay")
    both = config["listeners"]["mx"] | {"bind": [f"{LISTENER}:{PORT}", "{}:{}".format(*_OTHER)]}
    with farm_of_two(tmp_path, smtpload_binary) as networks, supervisor(tmp_path) as systemd:
        with kernel_rig(
            networks, tmp_path, config | {"listeners": {"mx": both}}, systemd.before()
        ) as rig:
            systemd.until(lambda said: "READY=1" in said)
            rig.balancer.write(config)
            assert rig.balancer.command("reload").returncode == 0
            systemd.until(lambda said: f"FDNAME={_OTHER[0]}-{_OTHER[1]}" in said[1:])
            addresses = {one.getsockname() for one in systemd.kept()}
            assert addresses == {(LISTENER, PORT)}
            with pytest.raises(ConnectionRefusedError):
                networks.inside("c", lambda: Client(_OTHER)).result(LIMIT)
