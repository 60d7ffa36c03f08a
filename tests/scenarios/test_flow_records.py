"""Sessions while the process is killed again and again: each flow is in the log, once."""

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from harness.dialogue import Client
from harness.kernel_rig import PORT, Rig, kernel_rig, polite, rig_configuration, serving_there
from harness.mailweir import Tree
from harness.namespaces import LISTENER, row
from harness.scale import count
from harness.waiting import LIMIT, until

_KILLS = count(4, 50)
_SENDERS = 8
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
        senders = [networks.inside("c", partial(_send, over)) for _ in range(_SENDERS)]
        try:
            for _ in range(_KILLS):
                with kernel_rig(networks, tmp_path, config) as rig:
                    until(partial(_has_handed_over, rig, _SESSIONS), "flows")
                    relayed += Counter({why: rig.relayed(why) for why in _EARLY})
                    rig.balancer.process.kill()
        finally:
            over.set()
        outcomes = sum((sender.result(LIMIT) for sender in senders), Counter[str]())
        with kernel_rig(networks, tmp_path, config) as rig:
            until(lambda: rig.balancer.status()["sessions"] == 0, "all to end")
            served = outcomes["served"]
            until(
                lambda: len(_quits(rig.balancer.session_log())) >= served,
                f"all in the log: {outcomes}",
            )
            whole = rig.balancer.session_log()
    log = _quits(whole)
    ids = Counter(line["id"] for line in log)
    counted(
        f"{_KILLS} kills: {outcomes}; in the log {len(ids)}, {len(log) - len(ids)} of them twice;"
        f" others {Counter(line['end_reason'] for line in whole if line not in log)};"
        f" relayed {dict(relayed)}"
    )
    assert len(ids) == served
    assert not relayed
    assert {line["path"] for line in log} == {"kernel"}


def _has_handed_over(rig: Rig, sessions: int) -> bool:
    return rig.balancer.metric("mailweir_kernel_path_hand_overs_total") >= sessions


def _quits(log: list[Tree]) -> list[Tree]:
    return [line for line in log if line["end_reason"] == "client_quit"]


def _send(over: threading.Event) -> Counter[str]:
    """Sessions one after the other, and what became of them."""
    outcomes: Counter[str] = Counter()
    while not over.is_set():
        outcome = _session()
        outcomes[outcome] += 1
        if outcome == "refused":
            over.wait(_AGAIN)
    return outcomes


def _session() -> str:
    try:
        client = Client((LISTENER, PORT))
    except OSError:
        return "refused"
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
