"""Measures how long much takes to come from far away, on each path and where it is only routed.

    make bench-bulk ARGS="--rounds 3"

What holds it back is the largest window that each end may be told: the kernel path tells the two
ends' own, the relay its own, which no smaller window scale at the listener may make worse.
"relayed" is a listener that is told to, "refused" one whose client the kernel path doesn't take.

Needs root, iproute2, nftables and clang. The networks are those of the tests, in tests/harness.
"""

import argparse
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests"))

from benches.peers.machine import heading  # noqa: E402

from harness.mailweir.kernel_rig import (  # noqa: E402
    GREETING,
    PORT,
    kernel_rig,
    rig_configuration,
    serving_there,
)
from harness.mailweir.run import Mailweir  # noqa: E402
from harness.networks.row import LISTENER, SERVER, Row, row  # noqa: E402
from harness.networks.slow_path import Way, slow_path  # noqa: E402
from harness.servers.scripted import Stream  # noqa: E402
from harness.waiting import until  # noqa: E402

ROUTED, KERNEL, RELAYED, REFUSED = "routed", "kernel", "relayed", "refused"
# Whom each is measured by.
_BESIDE = {KERNEL: ROUTED, REFUSED: RELAYED}
_UP, _DOWN = b"UP\r\n", b"DOWN\r\n"
_END = b".\r\n"
# Long ones: the server looks for each end.
_LINE = bytes((1 << 15) - 2) + b"\r\n"
_WAYS = {"up": _UP, "down": _DOWN}
_PIECE = 1 << 18
_LIMIT = 120.0  # seconds for one run
_WORSE = 1.1


def main() -> int:
    """Parses, measures, prints; 1 where a path is worse than it may be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=20 << 20, help="bytes")
    parser.add_argument("--round-trip", type=int, default=100, help="milliseconds, of the client")
    parser.add_argument("--buffer", type=int, default=6 << 20, help="the balancer's largest")
    options = parser.parse_args()
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.rounds):
        for path in (ROUTED, KERNEL, RELAYED, REFUSED):
            for way, seconds in _run(path, options).items():
                times.setdefault((path, way), []).append(seconds)
    facts = heading([], "", options.rounds, 0)
    for key in ("date", "machine", "commit"):
        print(f"- {key}: {facts[key]}")
    print(f"- method: {options.rounds} rounds, medians; {options.size} bytes,", end=" ")
    print(f"RTT {options.round_trip} ms, tcp_rmem at the balancer {options.buffer}\n")
    return _print(times)


def _run(path: str, options: argparse.Namespace) -> dict[str, float]:
    """Seconds each way, in networks of its own, so that no run learns of another's."""
    with ExitStack() as exits:
        directory = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="bulk-")))
        networks = exits.enter_context(row("bench"))
        way = Way(delay=options.round_trip / 2000)
        exits.enter_context(slow_path(networks, "c", way))
        for network, most in (("c", 6 << 20), ("s", 6 << 20), ("l", options.buffer)):
            networks.run(network, "sysctl", f"net.ipv4.tcp_rmem=4096 131072 {most}")
        if path == REFUSED:
            networks.run("c", "sysctl", "net.ipv4.ip_no_pmtu_disc=1")
        exits.enter_context(serving_there(networks, partial(_serve, options.size)))
        balancer = exits.enter_context(_peer(networks, path, directory))
        address = (LISTENER if balancer else SERVER, PORT)
        # The first one has neighbours found, and the server's window scale learned.
        networks.inside("c", partial(_talk, address, 1, _UP)).result(_LIMIT)
        found = {}
        for name, word in _WAYS.items():
            talk = networks.inside("c", partial(_talk, address, options.size, word))
            found[name] = talk.result(_LIMIT)
        if balancer:
            until(lambda: len(balancer.session_log()) == 3, "all in the log")
            paths = {line["path"] == "kernel" for line in balancer.session_log()[1:]}
            if paths != {path == KERNEL}:
                raise RuntimeError(f"{path}: sessions took other paths")
        return found


@contextmanager
def _peer(networks: Row, path: str, directory: Path) -> Iterator[Mailweir | None]:
    """What is between the networks: mailweir, or nothing but a router."""
    if path == ROUTED:
        networks.route()
        yield None
        return
    forwarding = "relay" if path == RELAYED else "auto"
    config = rig_configuration(directory, forwarding=forwarding)
    with kernel_rig(networks, directory, config) as rig:
        yield rig.balancer


def _serve(size: int, stream: Stream) -> None:
    """Takes what it is told to and says so, or says much."""
    _usual(stream.socket)
    stream.send(GREETING)
    word = stream.line()
    if word == _DOWN:
        stream.send(bytes(size))
        stream.line()
    elif word == _UP:
        while stream.line() != _END:
            pass
        stream.send(b"250 taken\r\n")
        stream.line()


def _usual(end: socket.socket) -> None:
    """As ends control congestion that are as they came, whatever this machine does."""
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")


def _talk(address: tuple[str, int], size: int, word: bytes) -> float:
    """Seconds from the word to the end of what was said."""
    with socket.create_connection(address, _LIMIT) as client:
        _usual(client)
        assert client.recv(100) == GREETING
        began = time.monotonic()
        client.sendall(word)
        if word == _UP:
            client.sendall(_LINE * (size // len(_LINE)) + _END)
            size = len(b"250 taken\r\n")
        while size > 0:
            piece = client.recv(_PIECE)
            if not piece:
                raise RuntimeError("an early end")
            size -= len(piece)
        took = time.monotonic() - began
        client.sendall(b"QUIT\r\n")
        return took


def _print(times: dict[tuple[str, str], list[float]]) -> int:
    worse = 0
    print("| way | path | seconds | all | beside |")
    print("|---|---|---:|---|---:|")
    for (path, way), seconds in sorted(times.items(), key=lambda one: one[0][1]):
        every = " ".join(f"{one:.2f}" for one in sorted(seconds))
        share = ""
        if path in _BESIDE:
            ratio = median(seconds) / median(times[_BESIDE[path], way])
            worse += ratio > _WORSE
            share = f"{ratio:.2f} of {_BESIDE[path]}"
        print(f"| {way} | {path} | {median(seconds):.2f} | {every} | {share} |")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
