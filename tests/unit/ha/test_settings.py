"""The configuration as the machine wants it."""

from typing import Any

import pytest

from mailweir.config.ha import Ha
from mailweir.config.model import Config
from mailweir.errors import StartError
from mailweir.ha.settings import (
    fixed_differences,
    node_of,
    places_that_differ,
    ports_of,
    settings_of,
)
from unit.fakes import MINIMAL, config


def pair(**more: Any) -> Ha:
    links = {"a": {"x": "10.0.0.1:5405", "w": "10.1.0.1:5405"}}
    links["b"] = {"w": "10.1.0.2:5405", "x": "10.0.0.2:5405"}
    nodes = {node: {"links": links[node]} for node in "ba"}
    nodes["a"]["priority"] = 120  # type: ignore[assignment]
    base = {
        "nodes": nodes,
        "virtual": [{"address": "192.0.2.10/24", "dev": "eth0"}],
        "keys": {"1": "/k1", "7": "/k7"},
    }
    return Ha.model_validate(base | more)


def test_both_nodes() -> None:
    a, b = settings_of(pair(), "a"), settings_of(pair(), "b")
    assert (a.node, a.peer, a.number, a.priority) == ("a", "b", 1, 120)
    assert (b.node, b.peer, b.number, b.priority) == ("b", "a", 2, 100)
    # The same number is the same link on both, whatever the order in the file.
    assert a.links == b.links == ("w", "x")
    assert (a.newest_key, a.cluster, a.pair_digest) == (7, b.cluster, b.pair_digest)


def test_which_node_this_is() -> None:
    assert node_of(pair(node="b"), "a") == "b"
    assert node_of(pair(), "a.example.org") == "a"
    with pytest.raises(StartError, match=r"this machine is called mx7: say with `ha\.node`"):
        node_of(pair(), "mx7")


def test_ports() -> None:
    listeners = {
        "mx": {"bind": ["192.0.2.10:25", "10.0.0.1:2525"], "pool": "farm"},
        "all": {"bind": ["0.0.0.0:587"], "pool": "farm"},
    }
    pools = {"farm": {"servers": {"s": "10.0.0.9:25"}}}
    config = Config.model_validate({"listeners": listeners, "pools": pools, "ha": pair()})
    assert ports_of(config) == [25, 587]


def test_what_a_reload_can_not_change() -> None:
    assert fixed_differences(pair(), pair(preempt=True, gateway=["10.0.0.254"])) == []
    assert fixed_differences(pair(), pair(node="a", keys={"1": "/k"})) == []
    for more, key in (
        ({"cluster": "x"}, "`ha.cluster`"),
        ({"virtual": []}, "`ha.virtual`"),
        ({"timers": {"lease": "4s"}}, "`ha.timers.lease`"),
        ({"nodes": {"a": {"links": {"x": "10.0.0.1:1"}}}}, "`ha.nodes`"),
    ):
        (problem,) = fixed_differences(pair(), pair(**more))
        assert problem.startswith(key)


def test_where_it_asks_can_not_change() -> None:
    old, more = config(MINIMAL), "state_dir: /elsewhere\nadmin: {socket: /elsewhere/admin.sock}\n"
    assert places_that_differ(old, config(MINIMAL)) == []
    found = places_that_differ(old, config(MINIMAL + more))
    assert [one.partition(" can't")[0] for one in found] == ["`admin.socket`", "`state_dir`"]
