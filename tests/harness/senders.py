"""Senders that behave as Postfix does: several mails a session with pauses between them, and
a mail that wasn't acknowledged is sent again in a new session until it is.
"""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness.dialogue import Address, Client
from harness.takers import mail

_MOST = 20  # mails in a session
_AGAIN = 0.1  # seconds until the next try


@dataclass
class Seen:
    """What the senders saw so far. Written by many threads."""

    issued: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    # Sessions that ended before their time, each by what its sender waited for then.
    told: list[str] = field(default_factory=list)  # a 421, say
    broken: list[str] = field(default_factory=list)  # nothing


class _OverError(Exception):
    """The session can't go on."""


class _Sender:
    """One after the other."""

    def __init__(
        self, address: Address, name: str, pause: float, stop: threading.Event, seen: Seen
    ) -> None:
        self._address = address
        self._name = name
        self._pause = pause
        self._stop = stop
        self._seen = seen
        self._serial = 0

    def run(self) -> None:
        """Sessions until there is nothing left that has been begun."""
        while not self._stop.is_set() or self._key() in self._seen.issued:
            try:
                with Client(self._address) as client:
                    self._session(client)
            except _OverError:
                self._stop.wait(_AGAIN)
            except OSError as error:
                self._seen.broken.append(f"connect ({type(error).__name__})")
                self._stop.wait(_AGAIN)

    def _session(self, client: Client) -> None:
        self._ask(client, "", "greeting")
        self._ask(client, "EHLO client.test")
        for number in range(random.randint(1, _MOST)):  # noqa: S311
            if number:
                self._stop.wait(random.uniform(0, self._pause))  # noqa: S311
            if self._stop.is_set() and self._key() not in self._seen.issued:
                break
            self._send(client)
        self._ask(client, "QUIT")

    def _send(self, client: Client) -> None:
        key = self._key()
        self._seen.issued.add(key)
        self._ask(client, "MAIL FROM:<sender@client.test>")
        self._ask(client, "RCPT TO:<box@server.test>")
        self._ask(client, "DATA")
        self._ask(client, mail(key), "final dot")
        self._seen.acknowledged.add(key)
        self._serial += 1

    def _ask(self, client: Client, command: str, step: str = "") -> None:
        step = step or command[:4]
        reply = ""
        try:
            if command:
                client.send(f"{command}\r\n".encode())
            reply = client.reply()
        except OSError as error:
            step = f"{step} ({type(error).__name__})"
        if reply[:1] in ("2", "3"):
            return
        if reply:
            self._seen.told.append(f"{reply[:3]} at {step}")
        else:
            self._seen.broken.append(step)
        raise _OverError

    def _key(self) -> str:
        return f"<{self._serial}.{self._name}@client.test>"


@contextmanager
def senders(address: Address, parallel: int, pause: float) -> Iterator[Seen]:
    """Such senders until the block ends; then each has every mail acknowledged that it began.

    They wait up to `pause` seconds between two mails of a session.
    """
    seen, stop = Seen(), threading.Event()
    with ThreadPoolExecutor(parallel) as pool:
        every = [_Sender(address, str(n), pause, stop, seen) for n in range(parallel)]
        running = [pool.submit(sender.run) for sender in every]
        try:
            yield seen
        finally:
            stop.set()
    for ended in running:
        ended.result()
