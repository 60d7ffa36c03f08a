"""What a reload changes of the kernel path, and what only a restart does."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.clients.dialogue import Client
from harness.mailweir.kernel_rig import Rig, kernel_rig, polite, rig_configuration, serving_there
from harness.mailweir.run import Tree
from harness.networks.row import LISTENER, row
from harness.waiting import LIMIT, until

_ELSEWHERE = 2526


def test_its_ports_and_places_stay_once_it_is_there(tmp_path: Path) -> None:
    relayed = rig_configuration(tmp_path) | {"forwarding": "relay"}
    with _running(tmp_path, relayed) as rig:
        # There is none yet.
        other = {"source_ports": "20000-20000", "max_flows": 9}
        said = "source_ports 10000-32767 -> 20000-20000; max_flows 65536 -> 9"
        assert said in _reloaded(rig, relayed | other)

        # Nor is there after a change that failed: the next one can have others.
        wanted = rig_configuration(tmp_path, source_ports="20001-20001", max_flows=9)
        wanted["listeners"]["mx"]["bind"].append(f"{LISTENER}:{_ELSEWHERE}")
        taken = rig.networks.inside("l", lambda: socket.create_server((LISTENER, _ELSEWHERE)))
        with taken.result(LIMIT):
            rig.balancer.write(wanted)
            done = rig.balancer.command("reload")
            assert done.returncode == 1
            assert f"{LISTENER}:{_ELSEWHERE} can't be bound" in done.stderr
        assert rig.balancer.status()["kernel_path"] is None
        with rig.client() as client:
            client.expect("220")
        wanted["source_ports"] = "20002-20002"
        assert "source_ports 20000-20000 -> 20002-20002" in _reloaded(rig, wanted)
        with rig.client() as client:
            _becomes_a_flow(rig, client)
            assert [port for _, port in rig.dialled_from()] == [20002]

            # There is one: whoever wants others is told, beforehand too.
            place = f"{rig.balancer.file}:"
            why = "can't change while there is a kernel path"
            for forwarding in ("kernel", "relay"):
                more = {"source_ports": "20003-20003", "max_flows": 5, "forwarding": forwarding}
                rig.balancer.write(wanted | more)
                for command in (("config", "diff"), ("reload",)):
                    done = rig.balancer.command(*command)
                    assert done.returncode == 78
                    lines = done.stderr.splitlines()
                    assert all(line.startswith(place) for line in lines[:2])
                    ports = f"source_ports: {why} (20002-20002 -> 20003-20003); restart mailweir"
                    assert lines[0].endswith(ports)
                    assert lines[1].endswith(f"max_flows: {why} (9 -> 5); restart mailweir")
            # It goes on, and so do changes.
            client.expect("250", "NOOP")
            assert "max_age 0s -> 1h" in _reloaded(rig, _with_age(wanted))


def test_flows_count_where_max_sessions_is_written(tmp_path: Path) -> None:
    """And from then on: no restart is needed for that."""
    config = rig_configuration(tmp_path)
    with _running(tmp_path, config) as rig, ExitStack() as exits:

        def come() -> Client:
            return exits.enter_context(rig.client())

        for number in (1, 2):
            _becomes_a_flow(rig, come(), number)
        said = _reloaded(rig, config | {"max_sessions": 1})
        assert " -> 1; " in said
        assert said.rstrip().endswith("; flows count against max_sessions")
        # Those of before don't.
        _becomes_a_flow(rig, come(), 3)
        come().expect("421")
        said = _reloaded(rig, config)
        assert said.rstrip().endswith("; flows don't count against max_sessions any more")
        _becomes_a_flow(rig, come(), 4)


@contextmanager
def _running(directory: Path, config: Tree) -> Iterator[Rig]:
    with (
        row() as networks,
        serving_there(networks, polite),
        kernel_rig(networks, directory, config) as rig,
    ):
        yield rig


def _reloaded(rig: Rig, config: Tree) -> str:
    """What a reload says that it changed."""
    rig.balancer.write(config)
    done = rig.balancer.command("reload")
    assert done.returncode == 0, done.stderr
    return done.stdout


def _becomes_a_flow(rig: Rig, client: Client, number: int = 1) -> None:
    client.expect("220")
    until(lambda: rig.flows() == number, "the session to be in the kernel")


def _with_age(config: Tree) -> Tree:
    listener = config["listeners"]["mx"] | {"max_age": "1h"}
    return config | {"listeners": {"mx": listener}}
