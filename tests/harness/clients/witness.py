"""Clients that note when each of their sessions began and how it ended.

smtpload counts; this tells sessions before a moment from those after it.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from harness.clients.dialogue import Address, Client


@dataclass(frozen=True)
class Seen:
    """A session. `began` is before its connect, on the monotonic clock."""

    began: float
    failure: str  # empty where all went well


class Witness:
    """What was seen so far."""

    def __init__(self) -> None:
        self._seen: list[Seen] = []

    def add(self, seen: Seen) -> None:
        """Note a session that has ended. Called by several threads."""
        self._seen.append(seen)

    def between(self, start: float, end: float = float("inf")) -> list[Seen]:
        """The ended sessions that began after `start` and not after `end`."""
        return [seen for seen in self._seen if start < seen.began <= end]


@contextmanager
def witnesses(address: Address, parallel: int) -> Iterator[Witness]:
    """Sessions one after the other in each of `parallel` clients, until the block ends."""
    witness, stop = Witness(), threading.Event()

    def client() -> None:
        while not stop.is_set():
            witness.add(_session(address))

    with ThreadPoolExecutor(parallel) as pool:
        clients = [pool.submit(client) for _ in range(parallel)]
        try:
            yield witness
        finally:
            stop.set()
    for ended in clients:
        ended.result()


def _session(address: Address) -> Seen:
    """Send one mail."""
    began = time.monotonic()
    try:
        with Client(address) as client:
            client.begin_mail()
            client.expect("250", "Subject: seen\r\n\r\ntext\r\n.")
            client.expect("221", "QUIT")
    except (OSError, AssertionError) as error:
        return Seen(began, repr(error))
    return Seen(began, "")
