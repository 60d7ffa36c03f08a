"""The process before this one, which goes on until this one serves. Made by the command line from
the environment, asked by the daemon and its main loop.
"""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from msgspec import DecodeError, ValidationError
from msgspec.json import decode

from mailweir.descriptors import until_readable
from mailweir.errors import Exit, StartError
from mailweir.spec import Elsewhere
from mailweir.upgrade.channel import (
    VARIABLE,
    Channel,
    End,
    Go,
    Inheritance,
    Prepared,
    Released,
    Remaining,
    Reopen,
    Serves,
)

# Seconds for it to answer: it does nothing else meanwhile, but may wait for a disk.
_LIMIT = 30.0
# For a last word to be written.
_LAST_WORD = 0.2
_NOBODY = Elsewhere((), ())

_log = structlog.get_logger("mailweir")


class Predecessor:
    """The process before this one, as long as it lives."""

    def __init__(self, inheritance: Inheritance) -> None:
        self.pid = inheritance.pid
        self.lock = inheritance.lock
        self.stored = inheritance.stored
        self._listening = [_taken(number) for number in inheritance.listening]
        self._admin = {name: _taken(number) for name, number in inheritance.admin.items()}
        self._inherited = tuple(self._admin)
        self._channel = Channel(_taken(inheritance.channel))
        # Sessions that it has still.
        self.sessions = 0
        # Whether this process is the one that serves, or is about to be.
        self._is_over = False
        watching = (os.pidfd_open(inheritance.pid),)
        threading.Thread(target=self._watch, args=watching, name="before", daemon=True).start()

    @property
    def lives(self) -> bool:
        """Whether it has sessions of its own to look after."""
        return self.sessions > 0

    def listening(self) -> list[socket.socket]:
        """What it listens with; the caller closes it. Only the first time."""
        taken, self._listening = self._listening, []
        return taken

    def admin(self, name: str) -> socket.socket | None:
        """The listening socket of an admin address, by its path or its text; the caller's."""
        return self._admin.pop(name, None)

    async def go(self, version: str) -> Go:
        """Say that all is prepared, and hear that it is this process's turn. Raises StartError."""
        await self._channel.open()
        self._channel.say(Prepared(version))
        while True:
            message = await self._hear("didn't hand over")
            if isinstance(message, Go):
                return message

    async def released(self) -> None:
        """Say that sessions are accepted here; returns when the kernel path is free."""
        for one in self._admin.values():
            one.close()
        left = set(self._admin)
        self._is_over = True
        self._channel.say(Serves(tuple(name for name in self._inherited if name not in left)))
        # Where it has died or hangs by now, what it had is this process's all the same.
        with suppress(StartError):
            while not isinstance(await self._hear("hangs"), Released):
                pass

    async def follow(self, told: Callable[[Elsewhere], object]) -> None:
        """Tell how many sessions it has, until it has ended."""
        while (message := await self._channel.hear()) is not None:
            if isinstance(message, Remaining):
                self.sessions = message.sessions
                told(message.elsewhere)
        self.sessions = 0
        told(_NOBODY)
        _log.info("the process before this one has ended", pid=self.pid)

    def end(self, *, now: bool) -> None:
        """Have it drain, or end now; while it serves that isn't for us to say."""
        if self._is_over:
            self._channel.say(End(now))

    def reopen(self) -> None:
        """Have it open the session log's file anew."""
        self._channel.say(Reopen())

    def _watch(self, handle: int) -> None:
        """In a thread of its own, whatever hangs in the others: a process that doesn't serve yet
        has nothing without the one before, and holds the lock that the next start needs.
        """
        until_readable(handle)  # once it has ended
        if not self._is_over:
            _log.error("the process before this one is gone before it handed over", pid=self.pid)
            time.sleep(_LAST_WORD)
            os._exit(Exit.FAILURE)

    async def _hear(self, failed: str) -> object:
        try:
            async with asyncio.timeout(_LIMIT):
                message = await self._channel.hear()
        except TimeoutError:
            raise StartError(f"process {self.pid} {failed} within {_LIMIT:.0f} s") from None
        if message is None:
            raise StartError(f"process {self.pid} is gone before it handed over")
        return message


def predecessor_in(environment: dict[str, str] | os._Environ[str]) -> Predecessor | None:
    """The one that `environment` names, which is taken out of there. Raises StartError."""
    text = environment.pop(VARIABLE, "")
    if not text:
        return None
    try:
        return Predecessor(decode(text, type=Inheritance))
    except (DecodeError, ValidationError, OSError) as error:
        raise StartError(f"{VARIABLE} can't be used: {error}") from None


def _taken(number: int) -> socket.socket:
    one = socket.socket(fileno=number)
    one.set_inheritable(False)
    return one
