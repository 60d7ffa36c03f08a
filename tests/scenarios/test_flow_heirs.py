"""A process that finds what another one left where something has changed in between: its places,
its pins, the clock; or where the other one is still there.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.machine.wall_clock import by_clock
from harness.mailweir.kernel_rig import (
    GREETING,
    Rig,
    kernel_rig,
    polite,
    rig_before,
    rig_configuration,
    serving_there,
)
from harness.mailweir.run import Tree
from harness.needs import missing, private_mounts, program
from harness.networks.row import Row, pins, row
from harness.process import run
from harness.servers.scripted import Stream
from harness.waiting import until

_DAY = 86_400

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


@contextmanager
def _crowd(rig: Rig, number: int) -> Iterator[list[Client]]:
    """So many clients that were greeted."""
    with ExitStack() as exits:
        clients = [exits.enter_context(rig.client()) for _ in range(number)]
        for client in clients:
            client.expect("220")
        yield clients


def _places(rig: Rig) -> tuple[int, int]:
    """Taken, and all."""
    names = ("places_taken", "max_flows")
    taken, most = [rig.balancer.metric(f"mailweir_kernel_path_{name}") for name in names]
    return int(taken), int(most)


def test_there_are_to_be_fewer(tmp_path: Path) -> None:
    """Those that there are go on, and count: until they are fewer than may be, no new one comes."""
    config = rig_configuration(tmp_path, max_flows=20)
    with row() as networks, serving_there(networks, polite), ExitStack() as exits:
        with kernel_rig(networks, tmp_path, config) as rig:
            clients = exits.enter_context(_crowd(rig, 12))
            until(lambda: rig.flows() == 12, "all to be flows")
            rig.balancer.process.kill()
        with kernel_rig(networks, tmp_path, config | {"max_flows": 5}) as rig:
            assert (rig.flows(), _places(rig)) == (12, (12, 5))
            with rig.client() as another:
                another.expect("220")
                another.expect("221", "QUIT")
            assert rig.relayed("table_full") == 1
            for client in clients:
                client.mail()
                client.close()
            until(lambda: _places(rig) == (0, 5), "their places to be free")
            with _crowd(rig, 8):
                until(lambda: rig.flows() == 5, "as many flows as may be")
                assert (_places(rig), rig.relayed("table_full")) == ((5, 5), 1 + 3)


def test_there_are_to_be_more(tmp_path: Path) -> None:
    """Which there can't be while some go on in the tables that there are: that is said."""
    config = rig_configuration(tmp_path, max_flows=2)
    with row() as networks, serving_there(networks, polite):
        _left(networks, tmp_path, config, pins())
        with kernel_rig(networks, tmp_path, config | {"max_flows": 9}) as rig:
            assert _places(rig)[1] == 2
            said = "fewer places than max_flows"
            until(lambda: said in rig.balancer.process.err, "it to be said")
            said = "the kernel path has places for 2 flows, not for max_flows 9: "
            assert said in rig.balancer.command("status").stdout


@pytest.mark.parametrize("what", ["some are gone", "one is of another size", "others are"])
def test_pins_that_are_not_whole(tmp_path: Path, what: str) -> None:
    """Nothing can go on with them, so it begins anew."""
    config, before = rig_configuration(tmp_path), pins()
    with row() as networks, serving_there(networks, polite):
        gone = what == "some are gone"
        first = config | ({"max_flows": 3} if gone else {})
        folder = _left(networks, tmp_path, first, before, flows=3)
        if gone:
            (folder / "places").unlink()
            (folder / "flows").unlink()
        else:
            smaller = config | {"max_flows": 1, "state_dir": str(tmp_path / "other")}
            other = _left(networks, tmp_path, smaller, pins())
            for name in ["moved"] if what.startswith("one") else ["gates", "flows", "moved"]:
                (other / name).rename(folder / name)
        with kernel_rig(networks, tmp_path, config) as rig, _crowd(rig, 5) as clients:
            for client in clients:
                client.mail()
                client.close()
            until(lambda: len(_quits(rig)) == 5, "all in the log")
            # Of those of another size that fit each other there is one place.
            assert what == "others are" or {line["path"] for line in _quits(rig)} == {"kernel"}


def _quits(rig: Rig) -> list[Tree]:
    return [line for line in rig.balancer.session_log() if line["end_reason"] == "client_quit"]


def _left(networks: Row, directory: Path, config: Tree, before: set[Path], flows: int = 1) -> Path:
    """What a process leaves that is killed with flows."""
    with kernel_rig(networks, directory, config) as rig, _crowd(rig, flows):
        until(lambda: rig.flows() == flows, "flows")
        rig.balancer.process.kill()
    (folder,) = pins() - before
    return folder


def test_another_one_has_them(tmp_path: Path) -> None:
    """One of another container: it has a folder of the same name, and the same BPF file system."""
    config = rig_configuration(tmp_path)
    state = tmp_path / "state"
    state.mkdir()
    own = [*private_mounts(), "sh", "-c", 'mount -t tmpfs own "$0" && exec "$@"', str(state)]
    other = tmp_path / "other"
    other.mkdir()
    of_other = config | {
        "admin": {"socket": str(other / "admin.sock"), "http": "off"},
        "log": {"sessions": str(other / "sessions.log")},
    }
    with rig_before(tmp_path, polite, config) as rig, _crowd(rig, 2) as clients:
        until(lambda: rig.flows() == 2, "flows")
        with row() as networks, serving_there(networks, polite):
            with kernel_rig(networks, other, of_other, own) as second:
                assert second.balancer.status()["sessions"] == 0
                why = second.balancer.status()["kernel_path"]["ends_with_process"]
                assert "is another process's" in why
                with _crowd(second, 2) as others:
                    until(lambda: second.flows() == 2, "its own flows")
                    for client in (*others, *clients):
                        client.expect("250", "EHLO client.test")
                    for client in others:
                        client.mail()
                        client.close()
                until(lambda: second.flows() == 0, "these to end")
        for client in clients:
            client.mail()
            client.close()
        until(lambda: len(rig.balancer.session_log()) == 2, "both in the log")
        assert rig.balancer.metric("mailweir_kernel_path_unpinned_total") == 0


@pytest.mark.needs("faketime")
def test_the_wall_clock_jumped(tmp_path: Path) -> None:
    """A session isn't older by that."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    config = rig_configuration(tmp_path)
    config["listeners"]["mx"]["max_age"] = "12h"
    with row() as networks, serving_there(networks, polite):
        began = time.monotonic()
        with kernel_rig(networks, tmp_path, config, by_clock(clock)) as rig:
            client = rig.client()
            client.expect("220")
            until(lambda: rig.flows() == 1, "the session to be a flow")
            rig.balancer.process.kill()
        clock.write_text(f"+{_DAY}")
        with kernel_rig(networks, tmp_path, config, by_clock(clock)) as rig, client:
            (session,) = rig.sessions()
            assert session["age_seconds"] < time.monotonic() - began
            client.expect("250", "EHLO client.test")
            client.mail()
            client.close()
            record = rig.record()
    assert record["end_reason"] == "client_quit"
    assert record["duration_ms"] < 1000 * (time.monotonic() - began)


@pytest.mark.parametrize("ahead", [_DAY, -1000])
def test_another_monotonic_clock(tmp_path: Path, ahead: int) -> None:
    """Of a time namespace: who speaks is not silent, and who is silent is."""
    before = [program("unshare"), "--time", "--monotonic", str(ahead)]
    if run([*before, "true"]).returncode:
        missing("needs time namespaces")
    config = rig_configuration(tmp_path)
    config["listeners"]["mx"]["timeouts"] = {"idle_client": "3s", "i_accept_duplicates": True}
    with (
        row() as networks,
        serving_there(networks, polite),
        kernel_rig(networks, tmp_path, config, before) as rig,
        rig.client() as client,
    ):
        client.expect("220")
        began = time.monotonic()
        while time.monotonic() < began + 4:
            client.expect("250", "NOOP")
            time.sleep(0.2)
        spoke = time.monotonic()
        with pytest.raises(ConnectionResetError):
            client.line()
        assert time.monotonic() - spoke > 2
        assert rig.record()["end_reason"] == "idle_client"


def test_a_stop_before_the_greeting_is_heard(tmp_path: Path) -> None:
    """The client is told, in the numbers that it takes; so is the server."""

    def serves(stream: Stream) -> None:
        stream.send(GREETING)
        stream.line()

    config = rig_configuration(tmp_path, drain={"deadline": "1s", "spread": "0s"})
    with rig_before(tmp_path, serves, config) as rig:
        chain = "type filter hook input priority 0;\n meta length > 70 drop"
        rig.networks.run("c", "nft", f"table inet deaf {{\n chain x {{\n {chain}\n }}\n}}")
        with rig.client() as client:
            until(lambda: rig.flows() == 1, "the session to be a flow")
            rig.balancer.process.stop()
            with pytest.raises(ConnectionResetError):
                client.line()
        assert rig.record()["end_reason"] == "stopped"
