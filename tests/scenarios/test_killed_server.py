"""A server that dies under load: nobody who comes later notices, before or after a check does.

Sessions that the server has greeted go with it. Those that it has accepted only don't:
nothing of it has reached their clients, so another server takes them.
"""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from harness.clients.smtpload import Sent, Sink, Smtpload
from harness.clients.witness import Witness, witnesses
from harness.mailweir.run import Mailweir, Tree, configuration
from harness.scale import count
from harness.waiting import LIMIT, until
from scenarios.conftest import Start

_KILLS = count(3, 30)
_PARALLEL = 50
_WITNESSES = 10
_LATER = 200  # sessions to be seen after a check has noticed, each time
_CHECK = {"every": "1s", "fast": "100ms", "rise": 1, "fall": 2}


@dataclass(frozen=True)
class _Kill:
    """What came of one kill."""

    load: Sent
    lost: int  # by the witnesses, on the server when it died
    unnoticed: int  # sessions of the witnesses that began before a check noticed
    noticed: int  # and after one did


def test_later_sessions_never_notice(
    tmp_path: Path, start: Start, smtpload: Smtpload, counted: Callable[[str], None]
) -> None:
    kills = []
    with ExitStack() as exits:
        stays = exits.enter_context(smtpload.sink("stays"))
        dies = exits.enter_context(smtpload.sink("dies-0"))
        servers = {"stays": stays.addresses[0], "dies": dies.addresses[0]}
        config = configuration(tmp_path, servers, check=_CHECK)
        balancer = start(config)
        for number in range(1, _KILLS + 1):
            with smtpload.source(
                f"load-{number}",
                balancer.address(),
                *(f"--duration={4 * LIMIT:g}s", f"--concurrency={_PARALLEL}"),
            ) as load:
                with witnesses(balancer.address(), _WITNESSES) as witness:
                    gone, noticed = _kill(balancer, dies, witness)
                    assert not load.ended
                load.stop()
                kills.append(_outcome(load.sent(), witness, gone, noticed))
            again = smtpload.sink(f"dies-{number}", listen=(servers["dies"],))
            dies = exits.enter_context(again)
            until(lambda: balancer.server_is("dies", "up"), "the check to see it again")
            # It is forgotten: one that goes so often is held back for a minute.
            _serve_without_it(balancer, config)
            balancer.change(config)
    for figure in _figures(kills):
        counted(figure)
    assert all(kill.unnoticed for kill in kills)
    assert not any(kill.load.failures.keys() & {"connect", "greeting"} for kill in kills)
    # No more than were there.
    assert all(kill.load.failed + kill.lost <= _PARALLEL + _WITNESSES for kill in kills)


def _serve_without_it(balancer: Mailweir, config: Tree) -> None:
    farm = config["pools"]["farm"]
    servers = {name: one for name, one in farm["servers"].items() if name != "dies"}
    balancer.change({**config, "pools": {"farm": {**farm, "servers": servers}}})


def _kill(balancer: Mailweir, dies: Sink, witness: Witness) -> tuple[float, float]:
    """Kill the server in the middle of load; when it was gone, and when a check had noticed."""
    before = balancer.servers()["dies"]
    until(
        lambda: balancer.servers()["dies"]["sessions"] > before["sessions"] + 10 * _PARALLEL,
        "load on the server",
    )
    dies.process.kill()
    gone = time.monotonic()
    until(lambda: balancer.server_is("dies", "down"), "the check to notice")
    noticed = time.monotonic()
    # Some met it dead, and went on to the next one.
    assert balancer.servers()["dies"]["connect_failures"] > before["connect_failures"]
    until(lambda: len(witness.between(noticed)) >= _LATER, "sessions after that")
    return gone, noticed


def _outcome(load: Sent, witness: Witness, gone: float, noticed: float) -> _Kill:
    later = witness.between(gone)
    assert [seen.failure for seen in later if seen.failure] == []
    unnoticed = len(witness.between(gone, noticed))
    lost = sum(1 for seen in witness.between(0, gone) if seen.failure)
    return _Kill(load, lost, unnoticed, len(later) - unnoticed)


def _figures(kills: list[_Kill]) -> list[str]:
    lost: Counter[str] = Counter()
    for kill in kills:
        lost.update({at: sum(kinds.values()) for at, kinds in kill.load.failures.items()})
    ok = sum(kill.load.ok for kill in kills)
    unnoticed, noticed = sum(k.unnoticed for k in kills), sum(k.noticed for k in kills)
    return [
        f"{len(kills)} kills under {_PARALLEL} parallel sessions, {ok} of them ok",
        f"began later: {unnoticed} before a check noticed, {noticed} after; 0 failed",
        f"on the server when it died: {sum(kill.lost for kill in kills)} of the witnesses' and"
        f" {lost.total()} of the load's, at {dict(lost)}",
    ]
