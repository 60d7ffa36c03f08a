"""Measures what becomes of a farm with one slow server, by each way to balance.

    .venv/bin/python benches/choosing/slow.py

The README beside it has the method. It ends by itself, after about 26 s for each row and round.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benches.choosing.farm import Load, Pace, Sessions, clients, server  # noqa: E402
from benches.choosing.figures import percentile  # noqa: E402
from benches.peers.machine import heading  # noqa: E402

from harness.mailweir.run import Mailweir, configuration, mailweir  # noqa: E402
from harness.programs.haproxy import haproxy  # noqa: E402
from harness.waiting import until  # noqa: E402

_NAMES = ("a", "b", "c", "d")
# Of their moments.
_OWN, _OTHERS = 25, 26
# Seconds until a server stands still, and how long it does.
_RUNS, _STOPS = 8.0, 5.0
_ENDING = 90.0  # seconds that sessions may go on after the last one began
_COLUMNS = (
    "balancer",
    "share of a",
    "of each other",
    "greeting p50",
    "p99",
    "max",
    "session p50",
    "p99",
    "failed",
    "CPU",
    "late p99",
)


@dataclass(frozen=True)
class Case:
    """How fast the servers are, and the load. The first server is another than the rest: `besides`
    are sessions a second that it gets from others, past the balancer; it may stop for a while.
    """

    title: str
    paces: Mapping[str, Pace]
    sessions: Sessions
    besides: float = 0.0
    stops: bool = False

    @property
    def describe(self) -> str:
        """For the heading of its table."""
        room = [pace.most for pace in self.paces.values()]
        first, rest = room[0] - self.besides, sum(room[1:])
        return (
            f"{self.title}. {self.sessions.rate:g} sessions a second for {self.sessions.seconds:g}"
            f" s; a has time for {first:.0f} of them, the others for {room[1]:.0f} each: a's part"
            f" of all that is {first / (first + rest):.1%}"
        )


@dataclass(frozen=True)
class Row:
    """One run of one balancer."""

    shares: list[float]  # the first server's first
    load: Load


Launch = Callable[[Path, Mapping[str, str]], Iterator[str]]


def _mailweir(balance: str) -> Launch:
    def launch(directory: Path, servers: Mapping[str, str]) -> Iterator[str]:
        # One check of each at the start and then none, which would be load as well.
        tree = configuration(
            directory, servers, balance=balance, check={"every": "1h"}, forwarding="relay"
        )
        tree["log"] = {"sessions": "off"}
        tree["pools"]["farm"] |= {"slow_start": "0s", "panic": "0%"}
        with mailweir(directory, tree) as balancer:
            until(partial(_all_up, balancer), "every server to be up")
            yield "{}:{}".format(*balancer.address())

    return launch


def _all_up(balancer: Mailweir) -> bool:
    return all(one["state"] == "up" for one in balancer.servers().values())


def _haproxy(balance: str) -> Launch:
    def launch(directory: Path, servers: Mapping[str, str]) -> Iterator[str]:
        settings = ["timeout connect 5s", "timeout server 11m"]
        with haproxy(directory, servers, settings, balance) as balancer:
            yield "{}:{}".format(*balancer.address)

    return launch


BALANCERS = {
    "mailweir round_robin": _mailweir("round_robin"),
    "mailweir random_two": _mailweir("random_two"),
    "mailweir least_conn": _mailweir("least_conn"),
    "mailweir least_load": _mailweir("least_load"),
    "haproxy roundrobin": _haproxy("roundrobin"),
    "haproxy leastconn": _haproxy("leastconn"),
}


_FAST = Pace(places=8)
_ALIKE = dict.fromkeys(_NAMES, _FAST)
_ONE_SLOW = _ALIKE | {"a": _FAST.times(5)}
_LOAD = Sessions(200, 20, _OWN)
CASES = {
    "slow": Case("a is five times as slow", _ONE_SLOW, _LOAD),
    # As many sessions: a queue that grows for longer keeps clients for minutes.
    "busy": Case(
        "a is five times as slow, and the farm is busy", _ONE_SLOW, Sessions(450, 9, _OWN)
    ),
    "shared": Case("a is as fast, and others use it too", _ALIKE, _LOAD, besides=170),
    "stops": Case(f"a is as fast, and stands still for {_STOPS:g} s", _ALIKE, _LOAD, stops=True),
}


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    facts = heading(["haproxy"], "", options.rounds, 0)
    for key in ("date", "machine", "programs", "commit"):
        print(f"- {key}: {facts[key]}")
    print(
        "- method: sessions begin at random moments, the same for each row; counted by servers and"
        f" clients; medians of {options.rounds} rounds, `failed` the sum, `CPU` the greatest;"
        " times in ms"
    )
    for name in options.cases:
        print(f"\n## {name}: {CASES[name].describe}\n", flush=True)
        _print(_rows(CASES[name], options.rounds))


def _rows(case: Case, rounds: int) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {name: [] for name in BALANCERS}
    for number in range(rounds):
        # None is always the first.
        for name in list(BALANCERS)[:: -1 if number % 2 else 1]:
            rows[name].append(_run(BALANCERS[name], case))
            print(f"round {number + 1} of {rounds}: {name} done", file=sys.stderr)
    return rows


def _run(launch: Launch, case: Case) -> Row:
    sessions = case.sessions
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        # What the processes said; where one fails it is part of the error.
        stack.enter_context(redirect_stderr(stack.enter_context((directory / "said").open("w"))))
        servers = {
            one: stack.enter_context(server(directory, one, pace))
            for one, pace in case.paces.items()
        }
        addresses = {one: running.address for one, running in servers.items()}
        address = stack.enter_context(contextmanager(launch)(directory, addresses))
        limit = sessions.seconds + _ENDING
        others = Sessions(case.besides, sessions.seconds, _OTHERS)
        with (
            clients(directory, "others", servers["a"].address, others) as elsewhere,
            clients(directory, "clients", address, sessions) as source,
        ):
            if case.stops:
                time.sleep(_RUNS)
                servers["a"].halt(_STOPS)
            load, besides = source.load(limit), elsewhere.load(limit)
        served = [len(running.end()) for running in servers.values()]
        served[0] -= len(besides.session)
    return Row([one / max(sum(served), 1) for one in served], load)


def _print(rows: Mapping[str, list[Row]]) -> None:
    print(f"| {' | '.join(_COLUMNS)} |\n|---|{'---:|' * (len(_COLUMNS) - 1)}")
    for name, runs in rows.items():
        print(f"| {name} | {' | '.join(_cells(runs))} |")
    reasons = {reason for runs in rows.values() for run in runs for reason in run.load.failed}
    if reasons:
        print(f"\nfailed by: {'; '.join(sorted(reasons))}")


def _cells(runs: list[Row]) -> list[str]:
    def middle(of: Callable[[Row], float]) -> float:
        return median(of(run) for run in runs)

    def ms(values: Callable[[Load], list[float]], part: float) -> str:
        return f"{middle(lambda row: percentile(values(row.load), part)) * 1000:.0f}"

    others = [median(shares) for shares in zip(*(run.shares[1:] for run in runs), strict=True)]
    return [
        f"{middle(lambda row: row.shares[0]):.1%}",
        f"{min(others):.1%}-{max(others):.1%}",
        *(ms(lambda load: load.greeting, part) for part in (0.5, 0.99, 1.0)),
        *(ms(lambda load: load.session, part) for part in (0.5, 0.99)),
        str(sum(sum(run.load.failed.values()) for run in runs)),
        f"{max(run.load.cpu for run in runs):.0%}",
        ms(lambda load: load.late, 0.99),
    ]


if __name__ == "__main__":
    main()
