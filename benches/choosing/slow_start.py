"""Measures how a server that comes back gets its share, without slow start and with it.

    .venv/bin/python benches/choosing/slow_start.py --plot docs/slow-start.svg

The README beside it has the method. It ends by itself, after about 65 s for each of the two runs.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benches.choosing.farm import Load, Pace, Sessions, clients, server  # noqa: E402
from benches.choosing.figures import Second, by_weight, seconds, straight  # noqa: E402
from benches.choosing.plot import Axis, Curve, svg  # noqa: E402
from benches.peers.machine import heading  # noqa: E402

from harness.mailweir.run import Mailweir, configuration, mailweir  # noqa: E402
from harness.waiting import until  # noqa: E402

_NAMES = ("a", "b", "c", "d")
_GONE, _BACK = 15.0, 20.0  # seconds after the load began: `d` is stopped, and started again
Line = Callable[[float, float, int], float]
_SHOWN = 30  # seconds after it is up
# As sessions are that scan a message, so that those that are open mean something.
_PACE = Pace(places=4000, message=2.0)
_ENDING = 90.0  # seconds that sessions may go on after the last one began


@dataclass(frozen=True)
class Run:
    """The returned server's seconds since it is up, and what clients saw."""

    seconds: list[Second]
    load: Load


def main() -> None:
    """Parses, measures, prints, draws."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=300, help="sessions that begin, a second")
    parser.add_argument("--slow-start", type=int, default=20, help="seconds of the second run")
    parser.add_argument("--plot", type=Path, help="where to draw it; else a new temporary file")
    options = parser.parse_args()
    sessions = Sessions(options.rate, _BACK + _SHOWN + 10, seed=None)
    runs = {}
    for ramp in (0, options.slow_start):
        runs[ramp] = _run(ramp, sessions)
        print(f"slow_start {ramp}s done", file=sys.stderr)
    _print(runs, sessions)
    path = options.plot
    if path is None:
        descriptor, name = tempfile.mkstemp(suffix=".svg", prefix="slow-start-")
        os.close(descriptor)
        path = Path(name)
    path.write_text(_draw(runs, options.rate))
    print(f"\nplot: {path}")


def _run(ramp: int, sessions: Sessions) -> Run:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        # What the processes said; where one fails it is part of the error.
        stack.enter_context(redirect_stderr(stack.enter_context((directory / "said").open("w"))))
        servers = {one: stack.enter_context(server(directory, one, _PACE)) for one in _NAMES}
        addresses = {one: running.address for one, running in servers.items()}
        check = {"every": "1s", "fast": "500ms", "rise": 1, "fall": 1}
        tree = configuration(
            directory, addresses, balance="least_conn", check=check, forwarding="relay"
        )
        tree["log"] = {"sessions": "off"}
        tree["pools"]["farm"] |= {"slow_start": f"{ramp}s", "panic": "0%"}
        balancer = stack.enter_context(mailweir(directory, tree))
        until(partial(_all_up, balancer), "every server to be up")
        began = time.monotonic()
        address = "{}:{}".format(*balancer.address())
        source = stack.enter_context(clients(directory, "clients", address, sessions))
        time.sleep(_GONE)
        before = servers["d"].end()
        until(lambda: balancer.server_is("d", "down"), "the server to be down")
        time.sleep(max(began + _BACK - time.monotonic(), 0))
        back = stack.enter_context(server(directory, "d2", _PACE, addresses["d"]))
        until(lambda: balancer.server_is("d", "up"), "the server to be up again")
        zero = time.monotonic()
        load = source.load(sessions.seconds + _ENDING)
        own = back.end()
        others = [span for one in _NAMES[:-1] for span in servers[one].end()] + before
    return Run(seconds(own, others, zero, _SHOWN), load)


def _all_up(balancer: Mailweir) -> bool:
    return all(one["state"] == "up" for one in balancer.servers().values())


def _print(runs: Mapping[int, Run], sessions: Sessions) -> None:
    facts = heading([], "", 1, 0)
    for key in ("date", "machine", "commit"):
        print(f"- {key}: {facts[key]}")
    print(
        f"- method: {len(_NAMES)} equal servers behind mailweir, least_conn, {sessions.rate:g}"
        f" sessions of {_PACE.session:.1f} s begin each second, evenly; one server refuses"
        f" connections from {_GONE:g} s on and is back at {_BACK:g} s; counted by the servers;"
        " second 0 begins when mailweir calls it up"
    )
    for ramp, run in runs.items():
        print(
            f"- slow_start {ramp}s: {sum(run.load.failed.values())} of"
            f" {len(run.load.late)} sessions failed; machine's CPU {run.load.cpu:.0%}"
        )
    at_once, slowly = runs.values()
    ramp = max(runs)
    print(f"\n| s | 0s: new | open | {ramp}s: new | open | % of full | straight | by weight |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for one, two in zip(at_once.seconds, slowly.seconds, strict=True):
        ideal = [line(two.at + 0.5, ramp, len(_NAMES)) for line in (straight, by_weight)]
        shares = " | ".join(f"{share * len(_NAMES):.1%}" for share in (two.share, *ideal))
        print(f"| {one.at} | {one.new} | {one.open} | {two.new} | {two.open} | {shares} |")
    print(f"\nlargest deviation in the {ramp} s, in % of the full share:")
    during = [one for one in slowly.seconds if one.at < ramp]
    print(f"- from a share that rises evenly: {_deviation(during, straight, ramp):.1%}")
    print(f"- from a weight that rises evenly: {_deviation(during, by_weight, ramp):.1%}")
    print(f"greatest number of new sessions in a second with {ramp}s: {_greatest(slowly)}")
    print(f"greatest number of new sessions in a second with 0s: {_greatest(at_once)}")


def _greatest(run: Run) -> int:
    return max(one.new for one in run.seconds)


def _deviation(during: Sequence[Second], line: Line, ramp: int) -> float:
    return max(
        abs(one.share - line(one.at + 0.5, ramp, len(_NAMES))) * len(_NAMES) for one in during
    )


def _draw(runs: Mapping[int, Run], rate: float) -> str:
    ramp, full = max(runs), rate / len(_NAMES)
    styles = ('stroke="#c33" stroke-width="2"', 'stroke="#06c" stroke-width="2"')
    curves = [
        Curve(f"slow_start: {one}s", [(s.at + 0.5, s.new) for s in run.seconds], style)
        for (one, run), style in zip(runs.items(), styles, strict=True)
    ]
    line = [(0.0, 0.0), (float(ramp), full), (float(_SHOWN), full)]
    curves.append(Curve("a share that rises evenly", line, 'stroke="#888" stroke-dasharray="5 4"'))
    most = max(_greatest(run) for run in runs.values())
    step = 50 if most > 100 else 25
    return svg(
        f"New sessions of a server that came back, {rate:g} a second at {len(_NAMES)} servers",
        Axis("seconds since it is up", _SHOWN, 5),
        Axis("new sessions in a second", -(-most // step) * step, step),
        curves,
    )


if __name__ == "__main__":
    main()
