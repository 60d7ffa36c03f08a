"""Options and ECN that one leg lacks: the other one is left without, and the kernel path is taken.

Settings of TCP are each network's own. mailweir's ends of a session take those of its network.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.kernel_rig import (
    PORT,
    Rig,
    kernel_rig,
    polite,
    rig_before,
    rig_configuration,
    serving_there,
)
from harness.mailweir.run import Tree
from harness.networks.row import LISTENER, SERVER, row
from harness.servers.exact import echo, exchange
from harness.waiting import LIMIT, until
from scenarios.foreign import ADDRESSES, Foreign

_SIZE = 3_000_000
_AGREED = {"ts", "sack", "ecn"}
# Sessions until what a server lacks is known, and told to the program: it looks each 250 ms.
_MOST = 50

pytestmark = pytest.mark.needs("iproute2", "nftables", "procps", "clang")


def _exchanges(rig: Rig) -> Tree:
    """The record of one more session, whose bytes came back as they were said."""
    before = len(rig.balancer.session_log())
    assert rig.networks.inside("c", partial(exchange, _SIZE)).result(LIMIT)
    return rig.record(before + 1)


def _is_carried(rig: Rig, session: Callable[[Rig], Tree] = _exchanges) -> list[str]:
    """The paths of sessions until one takes the kernel path, which is the last."""
    paths: list[str] = []
    while not paths or paths[-1] != "kernel":
        paths.append(str(session(rig)["path"]))
        assert len(paths) < _MOST
    return paths


def _agreed(rig: Rig, network: str) -> set[str]:
    """What `ss` says that a peer's connection has, of what may differ."""
    which = ("state", "established", f"( sport = {PORT} or dport = {PORT} )")
    said = rig.networks.run(network, "ss", "--no-header", "-tino", *which)
    return _AGREED.intersection(said.split())


@pytest.mark.parametrize(
    ("network", "setting", "value", "lacking"),
    [
        ("c", "tcp_timestamps", "0", {"ts"}),
        ("s", "tcp_timestamps", "0", {"ts"}),
        ("l", "tcp_timestamps", "0", {"ts"}),
        ("c", "tcp_sack", "0", {"sack"}),
        ("s", "tcp_sack", "0", {"sack"}),
        ("l", "tcp_sack", "0", {"sack"}),
        # Asked for by whoever begins; accepted by all.
        ("c", "tcp_ecn", "1", set()),
        ("l", "tcp_ecn", "1", set()),
    ],
)
def test_what_one_side_lacks_neither_has(
    tmp_path: Path, network: str, setting: str, value: str, lacking: set[str]
) -> None:
    """A server's lack is known by its first session, which takes the relay."""
    with rig_before(tmp_path, echo) as rig:
        with rig.networks.kernel_setting(network, f"net.ipv4.{setting}", value):
            paths = _is_carried(rig)
            _look(rig, {"ts", "sack"} - lacking)
        assert rig.relayed("options") == len(paths) - 1
        assert (len(paths) > 1) == (network == "s")
        # What has changed is heard, but a server is taken at its word for a minute longer.
        _is_carried(rig)
        _look(rig, {"ts", "sack"} - (set() if network == "c" else lacking))
        assert rig.relayed("ecn") == 0


def _look(rig: Rig, expected: set[str]) -> None:
    """In the middle of a session: both peers have this, and nothing else of what may differ."""
    before = len(rig.balancer.session_log())
    with rig.client() as client:
        client.expect("220")
        until(lambda: rig.flows() == 1, "the session to be a flow")
        assert (_agreed(rig, "c"), _agreed(rig, "s")) == (expected, expected)
        client.expect("NOOP", "NOOP")
    assert rig.record(before + 1)["path"] == "kernel"


def test_one_of_two_servers_lacks_them(tmp_path: Path, smtpload_binary: Path) -> None:
    """Clients of the listener are without, and so are sessions with the other server."""
    config = rig_configuration(tmp_path)
    farm = config["pools"]["farm"]
    farm["servers"]["b"] = {"address": f"{ADDRESSES['s']}:{PORT}"}
    farm["balance"] = "round_robin"
    with row() as networks, serving_there(networks, polite):
        foreign = Foreign(smtpload_binary.with_name("foreign"), networks)
        with (
            foreign.sink(tmp_path, PORT, "--no-timestamps"),
            kernel_rig(networks, tmp_path, config) as rig,
        ):
            until(lambda: rig.balancer.server_is("b", "up"), "the other server to be up")
            _is_carried(rig, partial(_mails, at="b"))
            records = [_mails(rig) for _ in range(8)]
            assert {(line["server"], line["path"]) for line in records} == {
                ("a", "kernel"),
                ("b", "kernel"),
            }


def _mails(rig: Rig, at: str = "") -> Tree:
    """The record of a session that takes a mail; of the next one with that server."""
    while True:
        before = len(rig.balancer.session_log())
        with rig.client() as client:
            client.expect("220")
            client.expect("250", "EHLO client.test")
            client.mail()
        record = rig.record(before + 1)
        if not at or record["server"] == at:
            return record


def test_a_listener_at_all_addresses_on_a_router(tmp_path: Path) -> None:
    """Its clients offer no ECN; connections that the host only passes on do."""
    config = rig_configuration(tmp_path)
    config["listeners"]["mx"]["bind"] = [f"0.0.0.0:{PORT}"]
    with rig_before(tmp_path, echo, config) as rig:
        rig.networks.route()
        with rig.networks.kernel_setting("c", "net.ipv4.tcp_ecn", "1"):
            _look(rig, {"ts", "sack"})
            direct = rig.networks.inside("c", lambda: Client((SERVER, PORT)))
            with direct.result(LIMIT) as client:
                client.expect("220")
                assert _agreed(rig, "c") == {"ts", "sack", "ecn"}


def test_a_port_that_is_somebody_elses(tmp_path: Path) -> None:
    """Another program on this host, and a listener whose sessions take the relay: all as it was."""
    config = rig_configuration(tmp_path)
    config["listeners"]["mx"]["forwarding"] = "relay"
    config["listeners"]["other"] = {"bind": [f"{LISTENER}:{PORT + 1}"], "pool": "farm"}
    with rig_before(tmp_path, echo, config) as rig:
        with rig.networks.kernel_setting("c", "net.ipv4.tcp_ecn", "1"), rig.client() as client:
            client.expect("220")
            assert "ecn" in _agreed(rig, "c")
