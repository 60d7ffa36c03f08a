"""The networks for pairs do what they say: who reaches whom after each of their operations."""

import socket
import subprocess
from collections.abc import Iterator

import pytest

from harness.networks.pair import (
    ADDRESSES,
    ADDRESSES6,
    GATEWAY,
    SERVER6,
    VIRTUAL,
    VIRTUAL6,
    WITNESS,
    WITNESS6,
    Pair,
    pair_networks,
)
from harness.waiting import LIMIT, until

_NOBODY = 9  # a port
_PATIENCE = 0.3  # seconds; an answer takes microseconds


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with pair_networks("test-pair", witness=True) as networks:
        yield networks


@pytest.mark.parametrize(
    ("network", "address"),
    [
        ("a", ADDRESSES["b"]["lan"]),
        ("a", ADDRESSES["b"]["cross"]),
        ("b", ADDRESSES6["a"]["lan"]),
        ("b", ADDRESSES6["a"]["cross"]),
        ("cl", GATEWAY),
        ("cl", SERVER6),
        ("a", WITNESS),
        ("b", WITNESS6),
    ],
)
def test_everyone_reaches_everyone(pair: Pair, network: str, address: str) -> None:
    assert _reaches(pair, network, address)


def test_cut_is_silent_and_unplugged_is_seen(pair: Pair) -> None:
    pair.cut("a", "lan")
    assert not _reaches(pair, "a", GATEWAY)
    assert _carrier(pair, "a", "eth0")
    assert _reaches(pair, "a", ADDRESSES["b"]["cross"])
    pair.heal("a", "lan")
    assert _reaches(pair, "a", GATEWAY)

    pair.unplug("b", "cross")
    until(lambda: not _carrier(pair, "b", "eth1"), "the carrier to be gone")
    assert _reaches(pair, "b", GATEWAY)
    pair.plug("b", "cross")
    until(lambda: _carrier(pair, "b", "eth1"), "the carrier")
    assert _reaches(pair, "b", ADDRESSES["a"]["cross"])


def test_losses_have_one_direction(pair: Pair) -> None:
    pair.lose("a", "b", f"tcp dport {_NOBODY}")
    assert not _reaches(pair, "a", ADDRESSES["b"]["lan"])
    assert _reaches(pair, "a", ADDRESSES["b"]["cross"])
    assert _reaches(pair, "a", GATEWAY)
    assert _reaches(pair, "b", ADDRESSES["a"]["lan"])
    pair.lose_nothing()
    pair.lose("a", "b", link="cross", percent=50)
    reached = sum(_reaches(pair, "a", ADDRESSES["b"]["cross"], 0.05) for _ in range(40))
    assert 5 <= reached <= 35  # about one of a million runs fails by chance
    pair.lose_nothing()
    assert _reaches(pair, "a", ADDRESSES["b"]["cross"])


def test_killed_node_comes_back_with_its_own_addresses_alone(pair: Pair) -> None:
    own = pair.addresses("a")
    with subprocess.Popen([*pair.before("a"), "sleep", "60"]) as process:
        for address in (f"{VIRTUAL}/24", f"{VIRTUAL6}/64", "fe80::10/64"):
            pair.run("a", "ip", "address", "add", address, "dev", "eth0")
            assert address in pair.addresses("a")
        pair.kill("a", [process.pid])
        assert process.wait(LIMIT) == -9
    assert not _reaches(pair, "b", ADDRESSES["a"]["lan"])
    assert not _reaches(pair, "b", ADDRESSES["a"]["cross"])
    pair.revive("a")
    assert sorted(pair.addresses("a")) == sorted(own)
    assert _reaches(pair, "b", ADDRESSES["a"]["lan"])
    assert _reaches(pair, "a", ADDRESSES6["b"]["cross"])


def _reaches(pair: Pair, network: str, address: str, patience: float = _PATIENCE) -> bool:
    """Whether an answer comes: where nobody listens the kernel refuses."""

    def refused() -> bool:
        try:
            socket.create_connection((address, _NOBODY), patience).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return True

    return pair.inside(network, refused).result(LIMIT)


def _carrier(pair: Pair, node: str, device: str) -> bool:
    return "NO-CARRIER" not in pair.run(node, "ip", "link", "show", device)
