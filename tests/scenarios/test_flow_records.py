"""Sessions while the process is killed again and again: each flow is in the log, once."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count as count_from
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.kernel_rig import (
    PORT,
    Rig,
    kernel_rig,
    polite,
    rig_configuration,
    serving_there,
)
from harness.mailweir.run import Tree
from harness.mailweir.torn_log import torn_log
from harness.networks.row import CLIENT, LISTENER, row
from harness.scale import count
from harness.waiting import LIMIT, until

_KILLS = count(4, 50)
_SENDERS = 8
# That each may use.
_PORTS = 5000
# At least, of each process.
_SESSIONS = 40
# Clients that find nobody wait for so long.
_AGAIN = 0.005  # seconds
# Of clients whose SYN wasn't kept: whoever came before the sockets were told to.
_EARLY = ("interface", "no_syn")

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


@pytest.mark.timeout(count(120, 900))
def test_each_flow_is_recorded_once(tmp_path: Path, counted: Callable[[str], None]) -> None:
    """Also what ended a moment before its process; and nobody who came early took the relay."""
    config = rig_configuration(tmp_path)
    relayed: Counter[str] = Counter()
    over = threading.Event()
    with row() as networks, serving_there(networks, polite):
        senders = [
            networks.inside("c", partial(_send, over, count_from(_PORTS * number)))
            for number in range(4, 4 + _SENDERS)
        ]
        try:
            for _ in range(_KILLS):
                with kernel_rig(networks, tmp_path, config) as rig:
                    until(partial(_has_handed_over, rig, _SESSIONS), "flows")
                    relayed += Counter({why: rig.relayed(why) for why in _EARLY})
                    rig.balancer.process.kill()
        finally:
            over.set()
        sent = [sender.result(LIMIT) for sender in senders]
        outcomes = sum((outcomes for outcomes, _ in sent), Counter[str]())
        served = sorted(address for _, addresses in sent for address in addresses)
        with kernel_rig(networks, tmp_path, config) as rig:
            until(lambda: rig.balancer.status()["sessions"] == 0, "all to end")
        # It ends when all is in the log.
        whole, torn = torn_log(tmp_path / "sessions.log")
    log = _quits(whole)
    ids = Counter(line["id"] for line in log)
    counted(
        f"{_KILLS} kills: {outcomes}; in the log {len(ids)}, {len(log) - len(ids)} of them twice;"
        f" others {Counter(line['end_reason'] for line in whole if line not in log)};"
        f" relayed {dict(relayed)}; {torn} lines torn by a kill"
    )
    missed = Counter(served) - Counter(line["client"] for line in log)
    assert not missed, str([line for line in whole if line["client"] in missed])
    assert len(ids) == len(served)
    assert not relayed
    assert {line["path"] for line in log} == {"kernel"}


def _has_handed_over(rig: Rig, sessions: int) -> bool:
    return rig.balancer.metric("mailweir_kernel_path_hand_overs_total") >= sessions


def _quits(log: list[Tree]) -> list[Tree]:
    return [line for line in log if line["end_reason"] == "client_quit"]


def _send(over: threading.Event, ports: Iterator[int]) -> tuple[Counter[str], list[str]]:
    """Sessions one after the other, each from a port of its own: what became of them, and the
    clients that were served. Who comes back from the same port may have to take the relay.
    """
    outcomes: Counter[str] = Counter()
    served = []
    port = next(ports)
    while not over.is_set():
        try:
            client = Client((LISTENER, PORT), source=port)
        except OSError:
            outcomes["refused"] += 1
            over.wait(_AGAIN)
            continue
        outcome = _session(client)
        outcomes[outcome] += 1
        if outcome == "served":
            served.append(f"{CLIENT}:{port}")
        port = next(ports)
    return outcomes, served


def _session(client: Client) -> str:
    with client:
        try:
            if not client.line().startswith("220"):
                return "not greeted"
        except OSError:
            return "not greeted"
        try:
            client.expect("250", "EHLO client.test")
            client.mail()
        except (OSError, AssertionError):
            return "cut"
    return "served"
