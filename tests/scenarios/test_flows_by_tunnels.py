"""Flows by interfaces whose frames have no Ethernet header: tunnels (TUN here; WireGuard and PPP
have the same frames).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from harness.mailweir.kernel_rig import Rig, kernel_rig, rig_configuration, serving_there
from harness.networks.row import row
from harness.networks.slow_path import Leg, Way, slow_path
from harness.servers.exact import echo, exchange
from harness.waiting import LIMIT, until

_SIZE = 1 << 20
_TUNNEL = Way(ethernet=False)
_BAD = Way(delay=0.01, swapped=0.05, doubled=0.05, lost=0.01, ethernet=False)

pytestmark = pytest.mark.needs("iproute2", "nftables", "procps", "clang")


@contextmanager
def _rig(directory: Path, ways: dict[Leg, Way]) -> Iterator[Rig]:
    with ExitStack() as exits:
        networks = exits.enter_context(row())
        for leg, way in ways.items():
            exits.enter_context(slow_path(networks, leg, way))
        exits.enter_context(serving_there(networks, echo))
        yield exits.enter_context(kernel_rig(networks, directory, rig_configuration(directory)))


def _exchanges(rig: Rig) -> str:
    """The path of one more session, whose bytes came back as they were said."""
    before = len(rig.balancer.session_log())
    assert rig.networks.inside("c", partial(exchange, _SIZE)).result(3 * LIMIT)
    return str(rig.record(before + 1)["path"])


@pytest.mark.parametrize(
    "ways",
    [
        pytest.param({"c": _TUNNEL}, id="clients"),
        pytest.param({"s": _TUNNEL}, id="servers"),
        pytest.param({"c": _TUNNEL, "s": _TUNNEL}, id="both"),
        pytest.param({"c": _BAD}, id="bad-to-clients"),
        pytest.param({"s": _BAD}, id="bad-to-servers"),
        pytest.param({"c": _BAD, "s": Way(lost=0.01)}, id="bad-to-both"),
    ],
)
def test_bytes_arrive_as_they_were_sent(tmp_path: Path, ways: dict[Leg, Way]) -> None:
    with _rig(tmp_path, ways) as rig:
        assert _exchanges(rig) == "kernel"


@pytest.mark.parametrize("network", ["c", "s"])
def test_what_one_side_lacks_neither_has(tmp_path: Path, network: str) -> None:
    """SYNs are changed there too: our own where it leaves, a client's where it comes in."""
    with (
        _rig(tmp_path, {"c": _TUNNEL, "s": _TUNNEL}) as rig,
        rig.networks.kernel_setting(network, "net.ipv4.tcp_timestamps", "0"),
    ):
        paths: list[str] = []
        while "kernel" not in paths:
            paths.append(_exchanges(rig))
            assert len(paths) < LIMIT
    assert (len(paths) > 1) == (network == "s")


def test_another_kind_of_link_under_the_same_name(tmp_path: Path) -> None:
    """The program for its frames takes the other's place."""
    with row() as networks, serving_there(networks, echo), ExitStack() as exits:
        with slow_path(networks, "c", _TUNNEL):
            rig = exits.enter_context(kernel_rig(networks, tmp_path, rig_configuration(tmp_path)))
            assert _exchanges(rig) == "kernel"
        networks.connect("c")
        until(lambda: _exchanges(rig) == "kernel", "the new link's sessions to be flows")
