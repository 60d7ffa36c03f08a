"""Which systems' sessions the kernel path carries: SYNs and answers of a mix of them, by hand.

Their stack is the same (smoltcp); what they agree on with us, and go by, is what each offers.
"""

from pathlib import Path

import pytest

from harness.mailweir.kernel_rig import PORT, Rig, kernel_rig, rig_configuration
from harness.networks.row import LISTENER, row
from harness.waiting import until
from scenarios.foreign import ADDRESSES, Foreign
from scenarios.stacks import CLIENTS, SERVERS, Stack

_LISTENER = (LISTENER, PORT)
# Until what the server takes and announces is known, and told to clients.
_MOST = 50
_CARRIED = 98

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name.replace(" ", "_"))
def test_most_are_carried(tmp_path: Path, smtpload_binary: Path, server: Stack) -> None:
    """98 of 100 at each server, and each other one has its reason; every byte arrives."""
    config = rig_configuration(tmp_path)
    config["pools"]["farm"]["servers"]["a"]["address"] = f"{ADDRESSES['s']}:{PORT}"
    with row() as networks:
        foreign = Foreign(smtpload_binary.with_name("foreign"), networks)
        with (
            foreign.sink(tmp_path, PORT, server.habits()) as sink,
            kernel_rig(networks, tmp_path, config) as rig,
        ):
            said: set[tuple[str, str]] = set()
            turns = 0
            while _of_session(rig, foreign, CLIENTS[0], said) != "kernel":
                turns += 1
                assert turns < _MOST
            cells = {one.name: _of_session(rig, foreign, one, said) for one in CLIENTS}
            until(lambda: len(sink.talks()) >= len(said), "the servers to be done")
            assert {(talk.heard, talk.said) for talk in sink.talks()} >= said
    carried = sum(one.weight for one in CLIENTS if cells[one.name] == "kernel")
    assert sum(one.weight for one in CLIENTS) == 100
    assert carried >= _CARRIED, cells
    others = {name: path for name, path in cells.items() if path != "kernel"}
    assert others == {"OpenVMS, without DF": "fragments"}


def _of_session(rig: Rig, foreign: Foreign, client: Stack, said: set[tuple[str, str]]) -> str:
    """The path of a session of this client, or the reason for the relay; notes what it said and
    heard.
    """
    before = len(rig.balancer.session_log())
    refused = _refusals(rig)
    (talk,) = foreign.clients(_LISTENER, client.habits(), "--size", "20000")
    assert talk.outcome == "fine", client.name
    said.add((talk.said, talk.heard))
    record = rig.record(before + 1)
    assert record["end_reason"] == "client_quit"
    if record["path"] == "kernel":
        return "kernel"
    (reason,) = {one for one, count in _refusals(rig).items() if count != refused.get(one, 0)}
    return reason


def _refusals(rig: Rig) -> dict[str, int]:
    """Sessions that took the relay, by reason."""
    stats = rig.balancer.status()["kernel_path"]
    return dict(stats["refusals"])
