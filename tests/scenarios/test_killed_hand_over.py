"""A process that dies at each step of a hand-over: sessions go on, or end so that SMTP retries.
One that stands still in the middle of it takes nothing from them. One that dies before a record is
in the log leaves that to the next.
"""

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.kernel_rig import PORT, polite, serving_there
from harness.networks.row import LISTENER, bpf_files, row
from harness.process import Running, running
from harness.scale import count
from harness.waiting import LIMIT, until
from scenarios.victims import LOG, Counts, Victim, counts

_STEPS = {
    # Before anybody was greeted: both peers see an end.
    "passage_placed": {"ended"},
    "hand_over_greeted": {"ended"},
    "hand_over_read": {"ended"},
    "hand_over_held": {"ended"},
    # The program has taken over, the client hasn't heard of it: the next process ends it, unless
    # the server has sent its greeting again meanwhile, which gets through.
    "hand_over_live": {"ended", "went on"},
    "hand_over_told": {"went on"},
    "hand_over_acknowledged": {"went on"},
    "hand_over_silent": {"went on"},
}
_TIMES = count(5, 50)
_LATE = count(10, 100)
_BOX, _LONGER = "box@server.test", "another.box@server.test"
# What a client says for that.
_RECEIVED = 117

Counted = Callable[[str], None]

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


@pytest.mark.timeout(count(120, 1200))
@pytest.mark.parametrize("step", _STEPS)
def test_every_session_goes_on_or_ends(
    tmp_path: Path, victim: Path, step: str, counted: Counted
) -> None:
    bpf_files()
    outcomes: Counter[str] = Counter()
    with row() as networks, serving_there(networks, polite):
        for number in range(_TIMES):
            with Victim(victim, networks, tmp_path).runs(f"dies-{number}", step) as dies:
                client = networks.inside("c", lambda: Client((LISTENER, PORT))).result(20)
                assert dies.wait() == -9, "it died at its step"
            with Victim(victim, networks, tmp_path).runs(f"heir-{number}", "never") as heir:
                outcomes[_outcome(client)] += 1
                client.close()
                until(lambda heir=heir: _counts(heir).has_nothing, "nothing to be left")  # type: ignore[misc]
    counted(f"{step}: {dict(outcomes)}")
    assert outcomes.total() == _TIMES
    assert outcomes.keys() <= _STEPS[step]


def test_a_late_acknowledgement_of_ours_hangs_none(
    tmp_path: Path, victim: Path, counted: Counted
) -> None:
    """The server hears it from our socket once the program has taken over."""
    bpf_files()
    outcomes: Counter[str] = Counter()
    with row() as networks, serving_there(networks, polite):
        with Victim(victim, networks, tmp_path).runs("late", "late"):
            for _ in range(_LATE):
                client = networks.inside("c", lambda: Client((LISTENER, PORT))).result(20)
                outcomes[_outcome(client)] += 1
                client.close()
    counted(f"late: {dict(outcomes)}")
    assert outcomes == {"went on": _LATE}


def test_a_record_that_two_processes_left(tmp_path: Path, victim: Path) -> None:
    """Both die as they write it, and in between the client asks for a new session."""
    bpf_files()
    with row() as networks, serving_there(networks, polite):
        with Victim(victim, networks, tmp_path).runs("first", "log_writes") as first:
            ended = networks.inside("c", _session).result(LIMIT)
            assert first.wait() == -9
        again = networks.inside("c", lambda: Client((LISTENER, PORT), source=ended))
        assert isinstance(again.exception(LIMIT), ConnectionRefusedError)
        # Perhaps before it is ready.
        with running(
            Victim(victim, networks, tmp_path).argv("log_writes"), tmp_path, "second"
        ) as second:
            assert second.wait() == -9
        with Victim(victim, networks, tmp_path).runs("heir", "never"):
            until(lambda: len(_logged(tmp_path)) == 1, "it to be in the log")
    assert _logged(tmp_path) == [(ended, _RECEIVED)]


def test_a_record_that_was_just_written(tmp_path: Path, victim: Path) -> None:
    """It dies before it can note that: the next one finds it in the log."""
    bpf_files()
    with row() as networks, serving_there(networks, polite):
        with Victim(victim, networks, tmp_path).runs("first", "log_written") as first:
            ended = networks.inside("c", _session).result(LIMIT)
            assert first.wait() == -9
        assert _logged(tmp_path) == [(ended, _RECEIVED)]
        with Victim(victim, networks, tmp_path).runs("heir", "never") as heir:
            until(lambda: _counts(heir).has_nothing, "its place to be free")
            until(lambda: _counts(heir).lingering == 0, "its keys to be gone")
    assert _logged(tmp_path) == [(ended, _RECEIVED)]


def test_a_client_that_comes_back_before_its_record_is_written(
    tmp_path: Path, victim: Path
) -> None:
    """Of the old one a server's key is left, so that both are known when the process dies."""
    bpf_files()
    with row() as networks, serving_there(networks, polite):
        with Victim(victim, networks, tmp_path).runs("unwritten", "unwritten") as unwritten:
            ended = networks.inside("c", _session).result(LIMIT)
            until(lambda: _is_silent(unwritten), "its end to be seen")
            # Its MAIL says more than the first one's.
            more = networks.inside("c", partial(_session, ended, _LONGER))
            assert more.result(LIMIT) == ended
            until(lambda: _is_silent(unwritten), "its end to be seen")
            unwritten.kill()
        with Victim(victim, networks, tmp_path).runs("heir", "never"):
            until(lambda: len(_logged(tmp_path)) == 2, "both to be in the log")
    longer = _RECEIVED + len(_LONGER) - len(_BOX)
    assert sorted(_logged(tmp_path)) == [(ended, _RECEIVED), (ended, longer)]


def test_a_panic_of_the_flows_thread_ends_one_session(tmp_path: Path, victim: Path) -> None:
    """It begins again with the same flows. The record that it was closing says what happened."""
    bpf_files()
    with row() as networks, serving_there(networks, polite):
        with Victim(victim, networks, tmp_path).runs("panics", "panics") as panics:
            lasting = networks.inside("c", lambda: Client((LISTENER, PORT))).result(LIMIT)
            lasting.expect("220")
            until(lambda: _counts(panics).restarts == 2, "both panics of a look")
            for _ in range(3):
                networks.inside("c", _session).result(LIMIT)
            until(lambda: _counts(panics).restarts == 3, "that of a close")
            lasting.expect("250", "EHLO client.test")
            lasting.close()
            until(lambda: _counts(panics).has_nothing, "all places to be free")
            until(lambda: len(_reasons(tmp_path)) == 4, "all to be in the log")
    assert sorted(_reasons(tmp_path)) == ["client_closed", "client_quit", "client_quit", "panicked"]


def test_a_panic_of_the_flows_thread_loses_nothing_that_came(tmp_path: Path, victim: Path) -> None:
    """Not the session that was handed over, nor the word that a record is in the log."""
    bpf_files()
    with row() as networks, serving_there(networks, polite):
        with Victim(victim, networks, tmp_path).runs("between", "panics_between") as panics:
            for _ in range(2):
                networks.inside("c", _session).result(LIMIT)
            until(lambda: _counts(panics).restarts == 2, "both panics")
            until(lambda: _counts(panics).has_nothing, "all places to be free")
            until(lambda: _counts(panics).lingering == 0, "all keys to be gone")
            until(lambda: len(_reasons(tmp_path)) == 2, "both to be in the log")
    assert _reasons(tmp_path) == ["client_quit"] * 2


def _reasons(directory: Path) -> list[str]:
    lines = map(json.loads, (directory / LOG).read_text().splitlines())
    return [line["end_reason"] for line in lines]


def _session(source: int = 0, box: str = _BOX) -> int:
    """A mail, and the port that it came from."""
    with Client((LISTENER, PORT), source=source) as client:
        port = client.socket.getsockname()[1]
        client.expect("220")
        client.expect("250", "EHLO client.test")
        client.mail(box)
    return int(port)


def _logged(directory: Path) -> list[tuple[int, int]]:
    """Of each session in the log its client's port, and how much that said."""
    lines = map(json.loads, (directory / LOG).read_text().splitlines())
    return [(int(line["client"].rpartition(":")[2]), line["received_bytes"]) for line in lines]


def _counts(process: Running) -> Counts:
    """Once it has said what there is."""
    return process.until(lambda: counts(process), "its counts") or Counts()


def _is_silent(process: Running) -> bool:
    """Whether it has no session."""
    counted = _counts(process)
    return (counted.active, counted.flows) == (0, 0)


def _outcome(client: Client) -> str:
    try:
        line = client.line()
        if not line:
            return "ended"
        assert line.startswith("220")
        client.expect("250", "EHLO client.test")
        client.mail()
    except ConnectionResetError:
        return "ended"
    return "went on"
