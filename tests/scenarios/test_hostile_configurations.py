"""Configurations by a mutator: each reload is refused with places or taken; sessions go on."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import yaml

from harness.clients.dialogue import Client
from harness.clients.smtpload import Smtpload
from harness.machine.proc import descriptors, own_memory
from harness.mailweir.mutator import BOMB, RICH, mutated
from harness.mailweir.run import Mailweir, Tree
from harness.waiting import until
from mailweir.admin.client import ask
from scenarios.conftest import Start

_MUTANTS = 200
_BY_SIGNAL = 5  # each so many-th; the others are asked for
_BETWEEN_SESSIONS = 10
# What reloads may leave behind: Python's heap has gaps. Of each, it would be 300 MiB.
_MORE_MEMORY = 32 * 1024 * 1024
_PLACED = re.compile(r"(?P<file>.*):[1-9][0-9]*:[1-9][0-9]*: .+")


def test_the_old_configuration_serves(
    tmp_path: Path, start: Start, smtpload: Smtpload, counted: Callable[[str], None]
) -> None:
    with smtpload.sink("server") as sink:
        good = RICH.format(directory=tmp_path, server=sink.addresses[0])
        balancer = start(yaml.safe_load(good))
        # What is made at first use is there before it is counted.
        _reloaded(balancer, BOMB.encode(), by_signal=False)
        assert _reloaded(balancer, good.encode(), by_signal=True)["ok"]
        _serves(balancer)
        before = len(descriptors(balancer.pid)), own_memory(balancer.pid)

        taken, unbound, seconds = 0, 0, []
        for seed in range(_MUTANTS):
            generation = balancer.status()["generation"]
            began = time.monotonic()
            outcome = _reloaded(
                balancer, mutated(seed, good), by_signal=seed % _BY_SIGNAL == _BY_SIGNAL - 1
            )
            if outcome["ok"]:
                taken += 1
                assert _reloaded(balancer, good.encode(), by_signal=False)["ok"]
            else:
                seconds.append(time.monotonic() - began)
                unbound += _refused_with_places(balancer, outcome)
                assert balancer.status()["generation"] == generation, seed
            if seed % _BETWEEN_SESSIONS == 0:
                _serves(balancer)

        until(lambda: balancer.status()["sessions"] == 0, "all sessions to end")
        until(lambda: len(descriptors(balancer.pid)) <= before[0], "the descriptors of before")
        memory = own_memory(balancer.pid)
        counted(
            f"{_MUTANTS} mutants: {taken} taken, {unbound} refused by the data plane, the others"
            f" with places; refused in {median(seconds) * 1000:.0f} ms (median),"
            f" {max(seconds) * 1000:.0f} ms at most; {before[1] >> 20} MiB before,"
            f" {memory >> 20} after; {before[0]} descriptors before and after"
        )
        assert taken < _MUTANTS / 3
        assert memory < before[1] + _MORE_MEMORY


def _reloaded(balancer: Mailweir, content: bytes, *, by_signal: bool) -> Tree:
    """How a reload of this went."""
    new = balancer.file.with_suffix(".new")
    new.write_bytes(content)
    new.replace(balancer.file)
    if not by_signal:
        socket = balancer.file.parent / "admin.sock"
        return ask(str(socket), "POST", "/api/v1/reload")
    last = _last_load(balancer)["at"]
    balancer.reload_by_signal()
    until(lambda: _last_load(balancer)["at"] != last, "the reload")
    return _last_load(balancer)


def _last_load(balancer: Mailweir) -> Tree:
    last: Tree = balancer.status()["config"]["last_load"]
    return last


def _refused_with_places(balancer: Mailweir, outcome: Tree) -> bool:
    """Every problem has its place; True where the file is good and only can't be had here."""
    if not outcome["problems"]:
        assert "can't be" in outcome["message"], outcome
        return True
    for problem in outcome["problems"]:
        found = _PLACED.fullmatch(problem)
        assert found is not None, problem
        assert found["file"].startswith(str(balancer.file)), problem
    return False


def _serves(balancer: Mailweir) -> None:
    """A mail goes through."""
    with Client(balancer.address()) as client:
        client.expect("220")
        client.expect("250", "EHLO client.test")
        client.mail()
