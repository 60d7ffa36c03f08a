"""Which way segments of flows go: links that stand on each other, addresses that are translated,
routes that move, pins that are removed. Wherever that can't be the kernel's, it is the relay's.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
from harness.networks.row import LEGS, LISTENER, SERVER, SOURCE, Row, pins, row
from harness.servers.scripted import Stream
from harness.waiting import LIMIT, until
from scenarios.victims import Victim, counts

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")

_SESSIONS = 200 if os.environ.get("MAILWEIR_LONG") else 20
_PUBLIC = 25  # where clients connect to if addresses are translated
_OTHER = {"c": ("10.3.0.1", "10.3.0.2"), "s": ("10.4.0.1", "10.4.0.2")}  # of a second uplink

Counted = Callable[[str], None]


def _serve(rig: Rig, port: int = PORT, address: str = LISTENER) -> dict[str, int]:
    """Sessions, all open at a time; how many took which path to their end."""
    before = len(rig.balancer.session_log())
    with ExitStack() as exits:
        clients = [exits.enter_context(_client(rig, address, port)) for _ in range(_SESSIONS)]
        for client in clients:
            client.expect("220")
        for client in clients:
            client.expect("250", "EHLO client.test")
            client.mail()
    return _paths(rig, before)


def _client(rig: Rig, address: str, port: int) -> Client:
    return rig.networks.inside("c", lambda: Client((address, port))).result(LIMIT)


def _paths(rig: Rig, before: int = 0) -> dict[str, int]:
    until(lambda: len(rig.balancer.session_log()) == before + _SESSIONS, "all in the log")
    log = rig.balancer.session_log()[before:]
    assert {line["end_reason"] for line in log} == {"client_quit"}
    paths = [line["path"] for line in log]
    return {path: paths.count(path) for path in set(paths)}


@contextmanager
def _translated(networks: Row, rules: str) -> Iterator[None]:
    networks.run("l", "nft", f"table ip translates {{\n{rules}\n}}")
    yield
    networks.run("l", "nft", "delete", "table", "ip", "translates")


@pytest.mark.parametrize("how", ["redirect", "dnat"])
def test_a_client_that_is_translated_takes_the_relay(
    tmp_path: Path, how: str, counted: Counted
) -> None:
    """On the wire it talks to another port or address than to our socket."""
    there = {"redirect": f"redirect to :{PORT}", "dnat": f"dnat to {SOURCE}:{PORT}"}[how]
    config = rig_configuration(tmp_path)
    config["listeners"]["mx"]["bind"] = [f"{LISTENER}:{PORT}", f"{SOURCE}:{PORT}"]
    with rig_before(tmp_path, polite, config) as rig:
        with _translated(rig.networks, _clients_to(there)):
            assert _serve(rig, _PUBLIC) == {"copy": _SESSIONS}
            assert rig.relayed("nat") == _SESSIONS
        assert _serve(rig) == {"kernel": _SESSIONS}
        assert rig.relayed("nat") == _SESSIONS
        counted(f"{_SESSIONS} translated sessions by the relay, as many others by the kernel")


def _clients_to(there: str) -> str:
    """Rules by which clients of the public port come to another one."""
    chain = "type nat hook prerouting priority -100;"
    return f"chain x {{\n {chain}\n tcp dport {_PUBLIC} {there}\n }}"


def test_translated_sessions_keep_their_source_ports(tmp_path: Path) -> None:
    """Their connections to the server have them, and nobody else is given them."""
    config = rig_configuration(tmp_path, source_ports="10000-10008")
    with (
        rig_before(tmp_path, polite, config) as rig,
        _translated(rig.networks, _clients_to(f"redirect to :{PORT}")),
        ExitStack() as exits,
    ):
        clients = [exits.enter_context(_client(rig, LISTENER, _PUBLIC)) for _ in range(9)]
        for client in clients:
            client.expect("220")
        last = clients.pop()
        last.mail()
        last.close()
        assert rig.record()["path"] == "copy"
        with rig.client() as other:
            other.expect("220")
            other.mail()
        assert rig.record(2)["path"] == "kernel"
        assert (rig.relayed("nat"), rig.relayed("no_port")) == (9, 0)
        for client in clients:
            client.mail()


@pytest.mark.parametrize("how", ["dnat", "masquerade"])
def test_a_server_that_is_translated_takes_the_relay(
    tmp_path: Path, how: str, counted: Counted
) -> None:
    """Its address in the configuration, or ours towards it, is another one on the wire."""
    rules = {
        "dnat": "chain x {\n type nat hook output priority -100;\n"
        f" ip daddr 10.2.0.99 dnat to {SERVER}\n }}",
        "masquerade": "chain x {\n type nat hook postrouting priority 100;\n"
        f" ip daddr {SERVER} masquerade random\n }}",
    }[how]
    config = rig_configuration(tmp_path)
    if how == "dnat":
        config["pools"]["farm"]["servers"] = {"a": f"10.2.0.99:{PORT}"}
    with row() as networks, _translated(networks, rules), serving_there(networks, polite):
        with kernel_rig(networks, tmp_path, config) as rig:
            assert _serve(rig) == {"copy": _SESSIONS}
            assert rig.relayed("nat") == _SESSIONS
            counted(f"{_SESSIONS} sessions by the relay")


@pytest.mark.parametrize("network", ["c", "s"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_bridge(tmp_path: Path, network: str, when: str, counted: Counted) -> None:
    """A segment passes the port and the bridge, and counts once. The bridge may come after the
    start: its port is left then.
    """
    with row() as networks, serving_there(networks, polite):
        if when == "before":
            _bridge(networks, network)
        with kernel_rig(networks, tmp_path, rig_configuration(tmp_path)) as rig:
            if when == "after":
                assert _serve(rig) == {"kernel": _SESSIONS}
                _bridge(networks, network)
                port, *_ = LEGS[network]
                until(lambda: not _attached(port), "the port to be left")
            assert _serve(rig) == {"kernel": _SESSIONS}
            counted(f"{_SESSIONS} sessions by the kernel")


def _bridge(networks: Row, network: str) -> None:
    """The balancer's leg becomes the port of a bridge, which gets its address."""
    port, here, _ = LEGS[network]
    for command in (
        "link add br0 type bridge",
        "link set br0 up",
        f"address delete {here}/24 dev {port}",
        f"link set {port} master br0",
        f"address add {here}/24 dev br0",
    ):
        networks.run("l", "ip", *command.split())


def _attached(device: str) -> list[str]:
    """What holds the program at a link of the balancer's."""
    files = [file for folder in pins() for file in folder.iterdir()]
    return [file.name for file in files if file.name.endswith(f":{device}")]


def test_a_flow_whose_port_gets_a_bridge_goes_on(tmp_path: Path) -> None:
    with rig_before(tmp_path, polite) as rig, rig.client() as client:
        client.expect("220")
        until(lambda: rig.flows() == 1, "the session to be a flow")
        client.expect("250", "EHLO client.test")
        _bridge(rig.networks, "c")
        client.expect("250", "NOOP")
        client.mail()
        client.close()
        assert rig.record()["end_reason"] == "client_quit"


@pytest.mark.parametrize("network", ["c", "s"])
def test_a_macvlan_and_the_link_that_it_stands_on(
    tmp_path: Path, network: str, counted: Counted
) -> None:
    """Both have addresses; what is for the one passes the other, and counts once."""
    config = rig_configuration(tmp_path)
    parent, here, there = LEGS[network]
    above = here.replace(".0.2", ".0.3")
    if network == "c":
        config["listeners"]["mx"]["bind"] = [f"{LISTENER}:{PORT}", f"{above}:{PORT}"]
    with row() as networks, serving_there(networks, polite):
        for command in (
            f"link add upper link {parent} type macvlan mode bridge",
            f"address add {above}/24 dev upper",
            "link set upper up",
        ):
            networks.run("l", "ip", *command.split())
        with kernel_rig(networks, tmp_path, config) as rig:
            _route(networks, there, parent, here)
            assert _serve(rig) == {"kernel": _SESSIONS}
            _route(networks, there, "upper", above)
            to = above if network == "c" else LISTENER
            assert _serve(rig, PORT, to) == {"kernel": _SESSIONS}
            counted(f"{_SESSIONS} sessions each by the macvlan and its parent")


def _route(networks: Row, there: str, device: str, here: str) -> None:
    networks.run("l", "ip", "route", "replace", f"{there}/32", "dev", device, "src", here)


@pytest.mark.parametrize("network", ["c", "s"])
def test_a_route_moves_under_flows(tmp_path: Path, network: str, counted: Counted) -> None:
    """The other uplink is used as by sockets, and the first one is dead."""
    with rig_before(tmp_path, polite) as rig, ExitStack() as exits:
        _second_uplink(rig.networks, network)
        clients = [exits.enter_context(rig.client()) for _ in range(_SESSIONS)]
        for client in clients:
            client.expect("220")
        until(lambda: rig.flows() == _SESSIONS, "all to be flows")
        _move(rig.networks, network)
        for client in clients:
            client.expect("250", "EHLO client.test")
            client.mail()
            client.close()
        assert _paths(rig) == {"kernel": _SESSIONS}
        moved = rig.balancer.metric("mailweir_kernel_path_moved_total")
        assert moved == _SESSIONS
        counted(f"{_SESSIONS} flows went on, {moved:.0f} by the other uplink")


def test_a_route_moves_under_a_flow_that_has_just_begun(tmp_path: Path, victim: Path) -> None:
    """The flows' thread, which stands still meanwhile, hears of both at once."""
    with row() as networks, serving_there(networks, polite):
        _second_uplink(networks, "s")
        with Victim(victim, networks, tmp_path).runs("victim", "dozes") as process:
            connect = partial(Client, (LISTENER, PORT))
            with networks.inside("c", connect).result(LIMIT) as client:
                client.expect("220")

                def handed_over() -> bool:
                    now = counts(process)
                    return now is not None and now.handed_over == 1

                process.until(handed_over, "the session to be a flow")
                _move(networks, "s")
                client.expect("250", "EHLO client.test")
                client.mail()


def test_what_is_said_in_the_name_of_a_server_goes_by_rules(tmp_path: Path) -> None:
    """By the uplink that is for the listener's address; all else goes by the first one."""
    with rig_before(tmp_path, polite) as rig, rig.client() as client:
        client.expect("220")
        until(lambda: rig.flows() == 1, "the session to be a flow")
        _second_uplink(rig.networks, "c")
        _, _, there = LEGS["c"]
        gateway, _ = _OTHER["c"]
        by_second = ["add", f"{there}/32", "via", gateway, "table", "7"]
        rig.networks.run("l", "ip", "route", *by_second)
        _only_the_second(rig.networks, "c")
        rig.networks.run("l", "ip", "rule", "add", "from", LISTENER, "table", "7")
        client.expect("250", "EHLO client.test")
        (session,) = rig.sessions()
        assert rig.balancer.command("kill", session["id"]).returncode == 0
        with pytest.raises(ConnectionResetError):
            client.line()


def _second_uplink(networks: Row, network: str) -> None:
    """A second link between the balancer and a peer, which has no traffic yet."""
    there, here = _OTHER[network]
    pair = ["type", "veth", "peer", "name", "second", "netns", networks.name(network)]
    networks.run("l", "ip", "link", "add", "second", *pair)
    for where, address in (("l", here), (network, there)):
        networks.run(where, "ip", "address", "add", f"{address}/24", "dev", "second")
        networks.run(where, "ip", "link", "set", "second", "up")


def _move(networks: Row, network: str) -> None:
    """The peer is reached by the second link, both ways; nothing passes the first."""
    first, _, there = LEGS[network]
    gateway, _ = _OTHER[network]
    _only_the_second(networks, network)
    networks.run("l", "ip", "route", "replace", f"{there}/32", "via", gateway)
    assert first not in networks.run("l", "ip", "route", "get", there)


def _only_the_second(networks: Row, network: str) -> None:
    """The peer goes by the second link, and nothing passes the first."""
    _, here, there = LEGS[network]
    _, back = _OTHER[network]
    networks.run(network, "ip", "route", "replace", f"{here}/32", "via", back)
    drop = f"type filter hook ingress device balancer priority 0;\n ip daddr {there} drop"
    networks.run(network, "nft", f"table netdev dead {{\n chain x {{\n {drop}\n }}\n}}")


def test_new_sessions_are_dialled_by_the_new_route(tmp_path: Path) -> None:
    """From the address that it gives, at once."""
    sources: list[str] = []
    sessions: list[str] = []

    def notes(stream: Stream) -> None:
        sources.append(stream.socket.getpeername()[0])
        polite(stream)

    def dialled(rig: Rig) -> str:
        with rig.client() as client:
            client.expect("220")
            client.mail()
        sessions.append(sources[-1])
        return sources[-1]

    with rig_before(tmp_path, notes) as rig:
        assert dialled(rig) == SOURCE
        _second_uplink(rig.networks, "s")
        _move(rig.networks, "s")
        _, here = _OTHER["s"]
        until(lambda: dialled(rig) == here, "the new address", limit=4)
        log = rig.balancer.session_log
        until(lambda: len(log()) == len(sessions), "all sessions in the log")
        assert {line["path"] for line in log()} == {"kernel"}


def test_where_no_route_is_left_flows_wait_for_one(tmp_path: Path) -> None:
    with rig_before(tmp_path, polite) as rig, rig.client() as client:
        client.expect("220")
        until(lambda: rig.flows() == 1, "the session to be a flow")
        _second_uplink(rig.networks, "s")
        rig.networks.run("l", "ip", "route", "add", "unreachable", f"{SERVER}/32")
        rig.networks.run("l", "ip", "route", "delete", "unreachable", f"{SERVER}/32")
        _move(rig.networks, "s")
        client.expect("250", "EHLO client.test")
        client.mail()
        assert rig.balancer.metric("mailweir_kernel_path_moved_total") == 1


def test_an_interface_that_gets_another_name(tmp_path: Path) -> None:
    """It isn't attached to twice: segments would count twice."""
    with rig_before(tmp_path, polite) as rig, rig.client() as client:
        client.expect("220")
        until(lambda: rig.flows() == 1, "the session to be a flow")
        leg, *_ = LEGS["c"]
        rig.networks.run("l", "ip", "link", "set", leg, "name", "renamed")
        until(lambda: len(_attached("renamed")) == 2 and not _attached(leg), "the new name")
        client.expect("250", "NOOP")
        # It may know its programs' new places a moment after they are there.
        until(lambda: _serve(rig) == {"kernel": _SESSIONS}, "sessions to be flows")


def test_an_interface_that_comes_later(tmp_path: Path) -> None:
    """And gets its address later still."""
    config = rig_configuration(tmp_path)
    config["listeners"]["mx"]["bind"] = [f"0.0.0.0:{PORT}"]
    with rig_before(tmp_path, polite, config) as rig:
        _second_uplink(rig.networks, "c")
        _, here = _OTHER["c"]
        with _client(rig, here, PORT) as client:
            client.expect("220")
            client.mail()
        assert rig.record()["path"] == "kernel"


def test_pins_that_are_removed(tmp_path: Path, counted: Counted) -> None:
    """They are made again within a second, all or one, and no segment gets past the program
    meanwhile: sessions go on, take the kernel path as before, and outlive the process.
    """
    config, before = rig_configuration(tmp_path), pins()
    with row() as networks, serving_there(networks, polite):
        with kernel_rig(networks, tmp_path, config) as rig, rig.client() as client:
            client.expect("220")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            (folder,) = pins() - before
            one, names = folder / "guard:clients", {file.name for file in folder.iterdir()}
            # Two parts of the program at two interfaces, and tables.
            assert len([name for name in names if ":" in name]) == 4 < len(names)
            for times, what in enumerate((folder, one, folder), 1):
                _remove(rig, what, times)
                client.expect("250", "NOOP")
                assert {file.name for file in folder.iterdir()} == names
            assert _serve(rig) == {"kernel": _SESSIONS}
            counted(f"{_SESSIONS} sessions by the kernel after three removals")
            assert rig.balancer.metric("mailweir_kernel_path_taken_off_total") == 0
            rig.balancer.process.kill()
            client.expect("250", "NOOP")
            with kernel_rig(networks, tmp_path, config) as rig:
                assert rig.balancer.metric("mailweir_kernel_path_adopted_total") >= 1
                client.mail()


def _remove(rig: Rig, what: Path, times: int) -> None:
    """Somebody removes them, so often by now, and they come back."""
    if what.is_dir():
        # At once, so that none comes back while others go.
        shutil.rmtree(what.rename(what.with_name("mailweir-removed")))
    else:
        what.unlink()
    seen = partial(rig.balancer.metric, "mailweir_kernel_path_unpinned_total")
    until(lambda: seen() == times, "that to be seen")


def test_pins_that_cannot_be_made_again(tmp_path: Path) -> None:
    """Their folder isn't ours alone any more: it is told that flows end with the process."""
    config, before = rig_configuration(tmp_path), pins()
    with row() as networks, serving_there(networks, polite):
        with kernel_rig(networks, tmp_path, config) as rig, rig.client() as client:
            client.expect("220")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            (folder,) = pins() - before
            os.chown(folder, 65534, 65534)
            (folder / "gates").unlink()
            status = partial(rig.balancer.command, "status")
            until(lambda: "isn't ours alone" in status().stdout, "that to be told")
            client.expect("250", "NOOP")
            assert _serve(rig) == {"kernel": _SESSIONS}
            os.chown(folder, 0, 0)
            until(lambda: "isn't ours alone" not in status().stdout, "all to be as it was")
            assert (folder / "gates").exists()


def test_an_interface_that_it_cannot_be_attached_to(tmp_path: Path) -> None:
    """Its sessions take the relay, and it is said why; the others are attached to as they were."""
    config = rig_configuration(tmp_path)
    with row() as networks, serving_there(networks, polite):
        folder = _folder(networks, tmp_path, config)
        folder.mkdir(mode=0o700)
        (folder / "ingress:clients").mkdir()
        with kernel_rig(networks, tmp_path, config) as rig:
            refused = partial(rig.balancer.metric, "mailweir_kernel_path_interfaces_refused")
            assert refused() == 1
            assert "the kernel path isn't at clients: " in rig.balancer.command("status").stdout
            assert _serve(rig) == {"copy": _SESSIONS}
            assert rig.relayed("interface") == _SESSIONS
            (folder / "ingress:clients").rmdir()
            until(lambda: refused() == 0, "it to be attached to")
            assert _serve(rig) == {"kernel": _SESSIONS}
            assert "direct-action" not in _filters(networks, "servers")


def test_a_route_moves_to_an_interface_before_the_program_is_there(tmp_path: Path) -> None:
    config = rig_configuration(tmp_path)
    with row() as networks, serving_there(networks, polite):
        folder = _folder(networks, tmp_path, config)
        folder.mkdir(mode=0o700)
        (folder / "ingress:second").mkdir()
        with kernel_rig(networks, tmp_path, config) as rig, rig.client() as client:
            client.expect("220")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            _second_uplink(networks, "c")
            refused = partial(rig.balancer.metric, "mailweir_kernel_path_interfaces_refused")
            until(lambda: refused() == 1, "the interface to be refused")
            _move(networks, "c")
            (folder / "ingress:second").rmdir()
            client.expect("250", "EHLO client.test")
            client.mail()


def _folder(networks: Row, directory: Path, config: Tree) -> Path:
    """Where mailweir has its pins with this configuration; none are there."""
    before = pins()
    with kernel_rig(networks, directory, config):
        (folder,) = pins() - before
    return folder


def _filters(networks: Row, device: str) -> str:
    ways = ("ingress", "egress")
    return "".join(networks.run("l", "tc", "filter", "show", "dev", device, way) for way in ways)


def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    """Who can write to our tables says where segments go."""
    config = rig_configuration(tmp_path)
    with row() as networks, serving_there(networks, polite):
        folder = _folder(networks, tmp_path, config)
        folder.mkdir()
        os.chown(folder, 65534, 65534)
        try:
            with kernel_rig(networks, tmp_path, config) as rig:
                said = rig.balancer.command("status").stdout
                assert "sessions in the kernel end with the process" in said
                assert f"{folder} isn't ours alone: it belongs to user 65534" in said
                assert list(folder.iterdir()) == []
                assert _serve(rig) == {"kernel": _SESSIONS}
        finally:
            folder.rmdir()
