"""What can go wrong in words an operator can act on, and the exit codes that go with it.

Every module may import this one; it imports `foreign` alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from mailweir.foreign import shown

# Characters of a problem: as long as a path can be, and more than any sentence of ours has.
_LONGEST_FILE, _LONGEST_MESSAGE = 4096, 1000


class Exit(IntEnum):
    """Exit codes of the command line. 2 is click's own, 78 is sysexits' EX_CONFIG."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_RUNNING = 3
    NOT_READY = 4
    BAD_CONFIG = 78


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration file, and where.

    `line` and `column` count from 1; 0 means that the file as a whole is meant
    (it can't be read, say). `path` names the key as `pools.farm.servers.a`.
    """

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        # Names of files and keys are whatever somebody made them.
        file = shown(self.file, _LONGEST_FILE)
        place = f"{file}:{self.line}:{self.column}" if self.line else file
        parts = (place, shown(self.path), shown(self.message, _LONGEST_MESSAGE))
        return ": ".join(part for part in parts if part)


class MailweirError(Exception):
    """Base of everything that is reported to the operator without a traceback."""

    exit_code = Exit.FAILURE


class ConfigError(MailweirError):
    """The configuration can't be used; carries every problem that was found, in file order."""

    exit_code = Exit.BAD_CONFIG

    def __init__(self, problems: Sequence[Problem], warnings: Sequence[Problem] = ()) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)
        self.warnings = tuple(warnings)


class UnreadableError(MailweirError):
    """A file of the configuration can't be read for now: a restart may find it well again."""


class StartError(MailweirError):
    """The process can't start: a lock, a folder or a socket can't be had."""


class PlaneError(MailweirError):
    """The data plane refused what it was asked for; nothing has changed."""


class PlanePanic(Exception):  # noqa: N818 - Rust's word
    """A thread of the data plane panicked, by a bug of ours: where, and what it said."""


class StalledError(MailweirError):
    """Something that is waited for takes longer than it may: a disk, a name service."""


class UpgradeError(MailweirError):
    """The next process couldn't take over; this one goes on. The message says why."""


class BusyError(MailweirError):
    """It can't be done at this moment; a little later it can."""


class StoreError(MailweirError):
    """The supervisor doesn't keep the listening sockets."""


class UnknownError(MailweirError):
    """Something was named that isn't there; the message says what is."""


class TooManyError(MailweirError):
    """There are as many of something as there may be; the message says what to do."""


class NotRunningError(MailweirError):
    """Nobody answers on the admin socket."""

    exit_code = Exit.NOT_RUNNING
