"""The next process, which takes over from this one. Begun by the main loop."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from msgspec.json import encode

from mailweir.descriptors import until_readable
from mailweir.errors import UpgradeError
from mailweir.lanes import Lane
from mailweir.spec import Elsewhere
from mailweir.upgrade.channel import (
    VARIABLE,
    Channel,
    Go,
    Inheritance,
    Message,
    Prepared,
    Released,
    Remaining,
    Serves,
)

# Seconds for it to read its configuration and to check its servers.
_PREPARING = 120.0
# For it to open its listeners.
_OPENING = 30.0
# Begins a program, says its pid and ends: that is then a child of whoever has orphans. What it
# writes goes to standard error.
_BEGIN = """
import os, sys
print(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ,
                     file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)]))
"""
# For one that is killed to be gone.
_GONE = 5.0

_Heard = TypeVar("_Heard", bound=Message)


@dataclass(frozen=True, slots=True)
class UpgradeOutcome:
    """How an upgrade went, in a sentence; the next process's version where it serves."""

    ok: bool
    message: str
    version: str = ""


class Successor:
    """The next process. It isn't our child: who supervises us is to notice its end."""

    def __init__(self, pid: int, handle: int, channel: Channel, lane: Lane) -> None:
        """`handle` is a pidfd, which is taken over."""
        self.pid = pid
        self.version = ""  # known once it is prepared
        self._handle = handle
        self._channel = channel
        self._lane = lane

    @classmethod
    async def start(
        cls, heritage: "Heritage", environment: Mapping[str, str], lane: Lane
    ) -> "Successor":
        """Start it. Raises UpgradeError."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            heritage.close()
            raise UpgradeError(f"it can't be started: {error}") from None
        with theirs:
            try:
                pid, handle = await lane.call(lambda: _started(heritage, theirs, environment))
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                ours.close()
                raise UpgradeError(f"it can't be started: {error}") from None
        channel = Channel(ours)
        await channel.open()
        return cls(pid, handle, channel, lane)

    async def prepared(self) -> None:
        """Returns when it could serve. Raises UpgradeError, and then it is gone."""
        self.version = (await self._hear(Prepared, _PREPARING, "read its configuration")).version

    async def serves(self, go: Go) -> Serves:
        """Have it serve. Raises UpgradeError, and then it is gone."""
        self._channel.say(go)
        return await self._hear(Serves, _OPENING, "open its listeners")

    def released(self) -> None:
        """What is in the kernel is its own."""
        self._channel.say(Released())

    def left(self, sessions: int, elsewhere: Elsewhere) -> None:
        """So many sessions there are here still."""
        self._channel.say(Remaining(sessions, elsewhere))

    async def hear(self) -> Message | None:
        """What it wants; None once it is gone."""
        return await self._channel.hear()

    def tell(self, number: signal.Signals) -> None:
        """Pass a signal on that was meant for the process that serves."""
        with suppress(OSError):
            signal.pidfd_send_signal(self._handle, number)

    async def kill(self) -> None:
        """Have it gone."""
        await self._lane.call(self._kill)
        self._channel.close()

    def _kill(self) -> None:
        if self._handle < 0:
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        until_readable(self._handle, _GONE)  # once it has ended
        handle, self._handle = self._handle, -1
        os.close(handle)

    async def _hear(self, wanted: type[_Heard], limit: float, what: str) -> _Heard:
        try:
            async with asyncio.timeout(limit):
                while (message := await self._channel.hear()) is not None:
                    if isinstance(message, wanted):
                        return message
        except TimeoutError:
            await self.kill()
            raise UpgradeError(f"it didn't {what} within {limit:.0f} s") from None
        await self.kill()
        raise UpgradeError(f"it ended before it could {what}; its log says why")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heritage:
    """What the next process is to have of this one, by descriptors; `stored` as in `Inheritance`.
    `listening` is closed once the process is started, or can't be.
    """

    lock: int
    listening: Sequence[socket.socket]
    admin: Mapping[str, int]
    stored: Sequence[str]

    def close(self) -> None:
        """The listening sockets; the next process has its own of them."""
        for one in self.listening:
            one.close()


def _started(
    heritage: Heritage, channel: socket.socket, environment: Mapping[str, str]
) -> tuple[int, int]:
    """Its pid and a pidfd. In a lane."""
    listening = tuple(one.fileno() for one in heritage.listening)
    inheritance = Inheritance(
        pid=os.getpid(),
        channel=channel.fileno(),
        lock=heritage.lock,
        listening=listening,
        admin=dict(heritage.admin),
        stored=tuple(heritage.stored),
    )
    try:
        program, *arguments = command(sys.argv)
        if not os.access(program, os.X_OK):
            raise ValueError(f"{program} can't be run")
        begun = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _BEGIN, program, *arguments],
            env={**os.environ, **environment, VARIABLE: encode(inheritance).decode()},
            pass_fds=(channel.fileno(), heritage.lock, *listening, *heritage.admin.values()),
            stdout=subprocess.PIPE,
            check=True,
        )
        pid = int(begun.stdout)
        return pid, os.pidfd_open(pid)
    finally:
        heritage.close()


def command(arguments: Sequence[str]) -> list[str]:
    """What started this process, found anew: a package may have put another version there."""
    program, *others = arguments
    if Path(program).name == "__main__.py":
        return [sys.executable, "-m", "mailweir", *others]
    return [program, *others]
