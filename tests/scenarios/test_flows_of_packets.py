"""More sessions than sockets could be: clients and servers are packets alone."""

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.mailweir.kernel_rig import Rig, kernel_rig, rig_configuration
from harness.mailweir.run import Tree
from harness.networks.row import SOURCE, Row, row
from harness.process import Running
from harness.scale import count
from harness.servers.packets import Flood, Packets, said, with_packet_servers
from harness.waiting import LIMIT, until

_SECONDS = count(1, 60)
_RATE = count(300, 3000)
_CLIENTS = count(100, 1000)
_FLOWS = count(300, 200_000)
_SOURCES = (SOURCE, "10.2.0.3", "10.2.0.4", "10.2.0.5")

pytestmark = pytest.mark.needs("iproute2", "clang")


@dataclass(frozen=True)
class _Place:
    """What is around mailweir, and its configuration."""

    networks: Row
    packets: Packets
    servers: Running
    directory: Path
    config: Tree

    @contextmanager
    def mailweir(self) -> Iterator[Rig]:
        """Once all its servers are up."""
        with kernel_rig(self.networks, self.directory, self.config) as rig:
            until(lambda: _states(rig) == {"up"}, "all servers to be up")
            yield rig

    def heard(self) -> Tree:
        """What the servers have, which end by that."""
        self.servers.send(signal.SIGTERM)
        assert self.servers.wait() == 0
        return said(self.servers, -1)


def _states(rig: Rig) -> set[str]:
    return {one["state"] for one in rig.balancer.servers().values()}


@pytest.fixture
def place(tmp_path: Path, smtpload_binary: Path) -> Iterator[_Place]:
    """Three servers, dialled from four addresses."""
    config = rig_configuration(tmp_path, max_flows=max(1000, _FLOWS + _FLOWS // 8))
    config["listeners"]["mx"]["timeouts"] = {"idle_client": "1h"}
    with row() as networks:
        for address in _SOURCES[1:]:
            networks.run("l", "ip", "address", "add", f"{address}/32", "dev", "servers")
        packets = Packets(networks, smtpload_binary.with_name("packets"), tmp_path)
        with packets.serving() as servers:
            sources = with_packet_servers(config, _SOURCES)
            yield _Place(networks, packets, servers, tmp_path, sources)


def _ends(rig: Rig, sessions: int) -> Counter[tuple[str, str]]:
    """Paths and reasons of all in the log, once so many are there."""
    limit = LIMIT + sessions / 1000
    until(lambda: rig.flows() == 0, "no flow to be left", limit=limit)
    until(lambda: len(rig.balancer.session_log()) >= sessions, "all in the log", limit=limit)
    log = rig.balancer.session_log()
    assert len({line["id"] for line in log}) == len(log), "each is there once"
    return Counter((line["path"], line["end_reason"]) for line in log)


def test_many_sessions_a_second(place: _Place, counted: Callable[[str], None]) -> None:
    """None wants for a place or a port, and what is said arrives."""
    flood = Flood(f"10.9.0.1/{_CLIENTS}", _RATE * _SECONDS, _RATE)
    with place.mailweir() as rig:
        with place.packets.clients(flood) as clients:
            report = clients.report()
        assert _ends(rig, flood.sessions) == {("kernel", "client_quit"): flood.sessions}
        assert (rig.relayed("no_port"), rig.relayed("table_full")) == (0, 0)
    counted(f"{flood.sessions} sessions at {_RATE}/s, said again {report['said_again']}")
    assert report["done"] == flood.sessions
    assert report["frames"] == {"broken": 0, "unheard": 0, "unsent": 0}
    heard = place.heard()
    assert heard["frames"] == {"broken": 0, "unheard": 0, "unsent": 0}
    assert heard["not_as_sent"] == 0
    assert heard["mails"] >= flood.sessions


def test_many_idle_flows_outlive_the_process(place: _Place, counted: Callable[[str], None]) -> None:
    """Killed, it leaves them to the next one, whose they are until they end."""
    flood = Flood(f"10.9.0.1/{_CLIENTS}", _FLOWS, max(_RATE, 300))
    limit = LIMIT + flood.seconds
    with ExitStack() as exits:
        with place.mailweir() as rig:
            clients = exits.enter_context(place.packets.clients(flood, "--rest"))
            assert clients.rest()["rested"] == _FLOWS
            until(lambda: rig.flows() == _FLOWS, "all to be flows", limit=limit)
            rig.balancer.process.kill()
        with place.mailweir() as rig:
            until(lambda: rig.flows() == _FLOWS, "all to be adopted", limit=limit)
            assert rig.balancer.metric("mailweir_kernel_path_adopted_total") == _FLOWS
            clients.go_on()
            report = clients.report()
            assert _ends(rig, _FLOWS) == {("kernel", "client_quit"): _FLOWS}
    counted(f"{_FLOWS} flows adopted, then a mail each: said again {report['said_again']}")
    assert (report["done"], report["rested"]) == (_FLOWS, _FLOWS)
    assert place.heard()["mails"] >= _FLOWS


def test_flows_that_all_speak(place: _Place) -> None:
    """Each says NOOP again and again, and is answered."""
    flood = Flood(f"10.9.0.1/{_CLIENTS}", 300, 300)
    with place.mailweir() as rig:
        with place.packets.clients(flood, "--rest", "--every=200") as clients:
            clients.rest()
            received = "mailweir_listener_received_bytes_total"
            most = rig.balancer.metric(received, listener="mx") + 300 * 3 * len(b"NOOP\r\n")
            until(
                lambda: rig.balancer.metric(received, listener="mx") > most, "three NOOPs of each"
            )
            clients.go_on()
            report = clients.report()
        assert _ends(rig, 300) == {("kernel", "client_quit"): 300}
    assert report["done"] == 300
    assert place.heard()["not_as_sent"] == 0
