"""Senders that behave as Postfix does: several mails a session with pauses between them, and
a mail that wasn't acknowledged is sent again in a new session until it is.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness.clients.dialogue import Address, Client
from harness.servers.takers import mail

_MOST = 20  # mails in a session, where nothing else is said
_AGAIN = 0.1  # seconds until the next try
_FROM = "sender@client.test"
_TO = "box@server.test"


@dataclass
class Seen:
    """What the senders saw so far. Written by many threads."""

    issued: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    # Sessions that ended before their time, each by what its sender waited for then.
    told: list[str] = field(default_factory=list)  # a 421, say
    broken: list[str] = field(default_factory=list)  # nothing
    longest: float = 0.0  # seconds that a mail took, from its first command to its reply


@dataclass(frozen=True)
class Step:
    """What is said at once, and the steps that are answered then, one reply each."""

    said: str
    heard: tuple[str, ...]


# The reply by which a mail is acknowledged.
DOT = "final dot"
# A client behind its EHLO in plain text, before the mails: into TLS, say.
Begin = Callable[[Client], None]
# How a mail with this Message-ID is sent.
Way = Callable[[str], list[Step]]


def by_data(key: str) -> list[Step]:
    """Command by command."""
    return by_data_of(mail(key))


def by_data_of(text: str) -> list[Step]:
    """The same for a mail up to its dot."""
    commands = [f"MAIL FROM:<{_FROM}>", f"RCPT TO:<{_TO}>", "DATA"]
    return [*(Step(command, (command[:4],)) for command in commands), Step(text, (DOT,))]


def pipelined(key: str) -> list[Step]:
    """In groups (RFC 2920), with the next MAIL in one segment with the dot."""
    group = f"RSET\r\nMAIL FROM:<{_FROM}>\r\nRCPT TO:<{_TO}>\r\nDATA"
    behind = f"{mail(key)}\r\nMAIL FROM:<{_FROM}>"
    return [Step(group, ("RSET", "MAIL", "RCPT", "DATA")), Step(behind, (DOT, "next MAIL"))]


def by_chunks(key: str, size: int = 0) -> list[Step]:
    """By BDAT (RFC 3030) in two chunks, the first one in a group."""
    text = mail(key, size).removesuffix(".")
    head, _, rest = text.partition("\r\n")
    rest = rest.removesuffix("\r\n")
    # A line's end is put behind each step: here it belongs to the chunk.
    begun = f"MAIL FROM:<{_FROM}>\r\nRCPT TO:<{_TO}>\r\nBDAT {len(head) + 2}\r\n{head}"
    last = f"BDAT {len(rest) + 2} LAST\r\n{rest}"
    return [Step(begun, ("MAIL", "RCPT", "BDAT")), Step(last, (DOT,))]


def with_auth(key: str) -> list[Step]:
    """Behind an AUTH with two challenges (RFC 4954)."""
    answers = ("AUTH LOGIN", "dXNlcg==", "cGFzcw==")
    return [*(Step(said, ("AUTH",)) for said in answers), *by_data(key)]


class _OverError(Exception):
    """The session can't go on."""


class _Sender:
    """One after the other."""

    def __init__(
        self,
        address: Address,
        name: str,
        pause: float,
        way: Way,
        begin: Begin,
        most: int,
        stop: threading.Event,
        seen: Seen,
    ) -> None:
        self._address = address
        self._way = way
        self._begin = begin
        self._most = most
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
        self._hear(client, "greeting")
        self._ask(client, Step("EHLO client.test", ("EHLO",)))
        self._begin(client)
        for number in range(random.randint(1, self._most)):  # noqa: S311
            if number:
                self._stop.wait(random.uniform(0, self._pause))  # noqa: S311
            if self._stop.is_set() and self._key() not in self._seen.issued:
                break
            self._send(client)
        self._ask(client, Step("QUIT", ("QUIT",)))

    def _send(self, client: Client) -> None:
        key = self._key()
        self._seen.issued.add(key)
        began = time.monotonic()
        for step in self._way(key):
            self._ask(client, step)
        self._seen.longest = max(self._seen.longest, time.monotonic() - began)

    def _ask(self, client: Client, step: Step) -> None:
        try:
            client.send(f"{step.said}\r\n".encode())
        except OSError as error:
            self._seen.broken.append(f"{step.heard[0]} ({type(error).__name__})")
            raise _OverError from error
        for heard in step.heard:
            self._hear(client, heard)
            if heard == DOT:
                self._seen.acknowledged.add(self._key())
                self._serial += 1

    def _hear(self, client: Client, step: str) -> None:
        reply = ""
        try:
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
def senders(
    address: Address,
    parallel: int,
    pause: float,
    way: Way = by_data,
    begin: Begin = lambda _: None,
    most: int = _MOST,
) -> Iterator[Seen]:
    """Such senders until the block ends; then each has every mail acknowledged that it began.

    They wait up to `pause` seconds between two mails of a session.
    """
    seen, stop = Seen(), threading.Event()
    with ThreadPoolExecutor(parallel) as pool:
        every = [
            _Sender(address, str(n), pause, way, begin, most, stop, seen) for n in range(parallel)
        ]
        running = [pool.submit(sender.run) for sender in every]
        try:
            yield seen
        finally:
            stop.set()
    for ended in running:
        ended.result()
