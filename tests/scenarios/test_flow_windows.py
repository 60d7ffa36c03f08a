"""Window scales: what is announced to each peer fits the other one, so that windows can be told."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from harness.mailweir.kernel_rig import Rig, rig_before
from harness.networks.row import CLIENT, SERVER, Row
from harness.servers.exact import echo, exchange
from harness.waiting import LIMIT

_SIZE = 300_000
_RECEIVE_BUFFERS = "net.ipv4.tcp_rmem"
_USUAL, _LARGE = 6 << 20, 32 << 20
_MOST = 14  # RFC 7323, 2.3

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


def _can_take(networks: Row, network: str, most: int) -> None:
    """Have sockets there become so large."""
    networks.run(network, "sysctl", f"{_RECEIVE_BUFFERS}=4096 131072 {most}")


def _announce(networks: Row, network: str, scale: int | None) -> None:
    """Have sockets there announce this scale from now on; none at all."""
    scaling = 0 if scale is None else 1
    networks.run(network, "sysctl", f"net.ipv4.tcp_window_scaling={scaling}")
    if scale is None:
        return
    window = 0xFFFF << scale
    # The scale is that of whichever is less; the other one is no less than is usual.
    _can_take(networks, network, max(window, _USUAL))
    address = {"c": CLIENT, "s": SERVER}[network]
    subnet = address.rpartition(".")[0] + ".0/24"
    route = f"{subnet} dev balancer proto kernel scope link src {address} window {window}"
    networks.run(network, "ip", "route", "change", *route.split())


def _exchanges(rig: Rig, number: int) -> str:
    """The path that a session took whose bytes came back; it is the one with this number."""
    assert rig.networks.inside("c", partial(exchange, _SIZE)).result(LIMIT)
    return str(rig.record(number)["path"])


@pytest.mark.parametrize("most", [_USUAL, _LARGE])
def test_any_scale_of_a_client_is_carried(tmp_path: Path, most: int) -> None:
    """Its server's leg announces the same; none as well."""
    with _rig(tmp_path, most) as rig:
        scales = [*range(_MOST + 1), None]
        paths = {}
        for number, scale in enumerate(scales, 1):
            _announce(rig.networks, "c", scale)
            paths[scale] = _exchanges(rig, number)
        assert paths == dict.fromkeys(scales, "kernel")


@pytest.mark.parametrize("most", [_USUAL, _LARGE])
def test_any_scale_of_a_server_is_carried(tmp_path: Path, most: int) -> None:
    """Once it has said it, clients are told no larger one."""
    with _rig(tmp_path, most) as rig:
        number = 0
        for scale in (_MOST, 8, 6, 3, 0, None):
            _announce(rig.networks, "s", scale)
            # The first one may come too early.
            paths: list[str] = []
            while not paths or paths[-1] != "kernel":
                number += 1
                paths.append(_exchanges(rig, number))
                assert len(paths) < 20
        assert rig.relayed("window_scale") >= 2


@contextmanager
def _rig(directory: Path, most: int) -> Iterator[Rig]:
    with rig_before(directory, echo) as rig:
        _can_take(rig.networks, "l", most)
        _can_take(rig.networks, "s", _USUAL)
        yield rig
