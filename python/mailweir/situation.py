"""The process at one moment, as values: what all that is shown of it is made of. Pure.

Handed out by the daemon; read by `admin`, and by nobody who decides.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from mailweir.config.address import Address
from mailweir.config.model import Config
from mailweir.config.words import CheckKind, Decides, HaKeeper, HaRole
from mailweir.faults import Fault
from mailweir.reload import ReloadOutcome
from mailweir.spec import ServerKey, ServerState
from mailweir.state.desired import Health
from mailweir.state.overrides import Overrides
from mailweir.stats import Admission, ServerStats, Stats


class CheckResult(Protocol):
    """A check that was made, as the monitor keeps it."""

    @property
    def ok(self) -> bool: ...
    @property
    def verdict(self) -> Health: ...
    @property
    def alarm(self) -> str: ...
    @property
    def certificate_end(self) -> float | None: ...
    @property
    def agent(self) -> str: ...
    @property
    def step(self) -> str: ...
    @property
    def detail(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def at(self) -> float: ...


class CheckTold(Protocol):
    """A check of a server, and its last results; the pool's own is called MAIN_CHECK."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> CheckKind: ...
    @property
    def address(self) -> Address: ...
    @property
    def decides(self) -> Decides: ...
    @property
    def health(self) -> Health: ...
    @property
    def wished(self) -> ServerState | None: ...  # by an agent
    @property
    def cap(self) -> int | None: ...  # sessions, by an agent
    @property
    def alarm(self) -> str: ...
    @property
    def results(self) -> Sequence[CheckResult]: ...


class EjectionTold(Protocol):
    """Why a server gets no new sessions for a while; times are on time.monotonic's clock."""

    @property
    def reason(self) -> str: ...
    @property
    def until(self) -> float: ...  # at least
    @property
    def times(self) -> int: ...  # how often by now


# A node that stands by checks its servers so many times as seldom: it needs to know of those that
# are long dead, and asks all of them at once when its turn comes.
_STANDBY = 5


@dataclass(frozen=True, slots=True)
class RoleTold:
    """This node's role in a pair, who said so, and since when it has it."""

    role: HaRole
    by: HaKeeper
    at: float  # seconds since 1970
    moment: float  # the same on time.monotonic's clock
    alarms: int  # of `mailweir ha run`

    @property
    def slowness(self) -> int:
        """How many times `every` it is from one check of a server to the next."""
        return _STANDBY if self.role is HaRole.BACKUP else 1


@dataclass(frozen=True)
class Situation:
    """The process at one moment, as the daemon hands it out."""

    version: str
    hostname: str
    pid: int
    started: float  # seconds since 1970
    now: float
    moment: float  # the same on time.monotonic's clock, which nobody sets
    uptime: float
    config_file: str
    config: Config
    listening: bool
    last_load: ReloadOutcome
    stats: Stats
    read_servers: Callable[[], Sequence[ServerStats]]
    overrides: Overrides
    room: str  # by what sessions outside the kernel are bounded
    faults: Sequence[Fault]  # bugs of ours
    lines_dropped: int  # of the process's log, which nobody read
    socket_problem: str  # why the admin socket can't be found; empty where it can
    not_kept: str  # why words of operators won't outlive the process; empty where they will
    checks: Callable[[ServerKey], Sequence[CheckTold]]  # the pool's own comes first
    ejection: Callable[[ServerKey], EjectionTold | None]  # None where it isn't ejected
    failing: Mapping[str, Sequence[str]]  # by pool servers that fail sessions and are in use
    next_server: Callable[[str, str], ServerKey | None]  # pool, client
    admission: Callable[[str, str], Admission]  # listener, client
    role: RoleTold | None  # in a pair; None where nobody has told
    before: tuple[int, int] | None  # of the process before this one: its pid, and its sessions

    @cached_property
    def servers(self) -> Sequence[ServerStats]:
        """All servers, in the file's order. Read once, and only where they are asked for."""
        return self.read_servers()

    @cached_property
    def members(self) -> dict[str, list[ServerStats]]:
        """Servers by pool, in the file's order; empty pools, and those that are gone, as well.

        Made once: each listener, of hundreds, asks for it.
        """
        members: dict[str, list[ServerStats]] = {name: [] for name in self.config.pools}
        for server in self.servers:
            members.setdefault(server.pool, []).append(server)
        return members
