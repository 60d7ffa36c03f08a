"""Clients that come as fast as is said, from one address, and never close: a program of its own.

python refused_crowd.py SOURCE HOST PORT RATE SECONDS; it prints `coming` with the first ones, and
how many came at its end, which TERM makes an earlier one. Those of the last seconds are kept,
whatever becomes of them.
"""

import resource
import signal
import socket
import sys
import time
from collections import deque
from contextlib import suppress

_KEPT = 8.0  # seconds


def _come(source: str, address: tuple[str, int]) -> socket.socket:
    client = socket.socket()
    client.setblocking(False)
    client.bind((source, 0))
    with suppress(BlockingIOError):
        client.connect(address)
    return client


def _run(source: str, address: tuple[str, int], rate: float, seconds: float) -> int:
    came, kept = 0, deque[socket.socket]()
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    began = time.monotonic()
    while not told and (elapsed := time.monotonic() - began) < seconds:
        while came < elapsed * rate:
            kept.append(_come(source, address))
            came += 1
            if len(kept) > _KEPT * rate:
                kept.popleft().close()
        if came and came <= rate / 100:
            print("coming", flush=True)
        time.sleep(0.002)
    return came


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    host, port, rate, seconds = sys.argv[2:]
    print(_run(sys.argv[1], (host, int(port)), float(rate), float(seconds)))
