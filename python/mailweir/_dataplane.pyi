"""The Rust data plane, as Python sees it. Types in, types out; nothing calls back.

Every class is frozen, every argument is by keyword. Times are seconds (float),
sizes are bytes, addresses are text as `192.0.2.1:25` or `[2001:db8::1]:25`.
"""

from typing import final

__all__ = [
    "BindError",
    "DataPlane",
    "Histogram",
    "ListenerSpec",
    "ListenerStats",
    "PlaneError",
    "PlaneSpec",
    "PoolSpec",
    "RelayStats",
    "ServerSpec",
    "ServerState",
    "ServerStats",
    "SpecError",
    "Stats",
    "Timeouts",
    "check",
]

class PlaneError(Exception):
    """Base of what the data plane refuses."""

class SpecError(PlaneError):
    """The specification contradicts itself; the message names the part."""

class BindError(PlaneError):
    """A listening address can't be had; the message names listener, address and cause."""

@final
class Timeouts:
    def __new__(
        cls,
        *,
        connect: float,
        greeting: float,
        accept_total: float,
        idle_client: float,
        idle_server: float,
        half_closed: float,
    ) -> Timeouts: ...

@final
class ListenerSpec:
    def __new__(
        cls, *, name: str, bind: list[str], protocol: str, pool: str, timeouts: Timeouts
    ) -> ListenerSpec:
        """`protocol` is one of `smtp`, `smtps`, `tcp`."""

@final
class ServerSpec:
    def __new__(cls, *, name: str, address: str, weight: int, state: str) -> ServerSpec:
        """`weight` 0..=1000 (0: no new sessions); `state` one of `up down drain maint`."""

@final
class PoolSpec:
    def __new__(cls, *, name: str, balance: str, servers: list[ServerSpec]) -> PoolSpec:
        """`balance` is `least_conn` or `round_robin`."""

@final
class PlaneSpec:
    def __new__(
        cls, *, hostname: str, listeners: list[ListenerSpec], pools: list[PoolSpec]
    ) -> PlaneSpec:
        """All that the data plane is to do. `hostname` opens the refusal lines (421)."""

@final
class ServerState:
    def __new__(cls, *, pool: str, server: str, state: str) -> ServerState: ...

@final
class Histogram:
    @property
    def bounds(self) -> list[float]:
        """Upper bounds in seconds, without the last (infinite) one."""
    @property
    def counts(self) -> list[int]:
        """Observations per bucket, not summed up; one longer than `bounds`."""
    @property
    def sum(self) -> float: ...

@final
class ListenerStats:
    @property
    def name(self) -> str: ...
    @property
    def addresses(self) -> list[str]:
        """As bound: a configured port 0 shows as the port that was given."""
    @property
    def accepted(self) -> int: ...
    @property
    def active(self) -> int: ...
    @property
    def received_bytes(self) -> int:
        """From clients."""
    @property
    def sent_bytes(self) -> int:
        """To clients."""
    @property
    def accept_pauses(self) -> int:
        """Times that accepting paused because descriptors or memory ran out."""
    @property
    def ended(self) -> dict[str, int]:
        """Sessions ended, by end reason (a closed list; every reason is present)."""
    @property
    def session_seconds(self) -> Histogram: ...

@final
class ServerStats:
    @property
    def pool(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def weight(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def active(self) -> int: ...
    @property
    def sessions(self) -> int:
        """Sessions that it took: it was connected to and, where it greets, greeted."""
    @property
    def connect_failures(self) -> dict[str, int]:
        """By cause: `refused timeout unreachable other`."""
    @property
    def greeting_failures(self) -> dict[str, int]:
        """By cause: `4xx 5xx closed reset timeout nonsense`."""
    @property
    def received_bytes(self) -> int:
        """From the server."""
    @property
    def sent_bytes(self) -> int:
        """To the server."""
    @property
    def connect_seconds(self) -> Histogram: ...
    @property
    def greeting_seconds(self) -> Histogram: ...

@final
class RelayStats:
    @property
    def copied_bytes(self) -> int: ...
    @property
    def spliced_bytes(self) -> int: ...
    @property
    def pipes(self) -> int:
        """Pipes that exist, lent and idle."""
    @property
    def pipe_failures(self) -> int:
        """Times that a pipe couldn't be had and bytes were copied instead."""

@final
class Stats:
    @property
    def generation(self) -> int: ...
    @property
    def workers(self) -> int: ...
    @property
    def draining(self) -> bool: ...
    @property
    def active(self) -> int:
        """Sessions now, those of removed listeners included."""
    @property
    def listeners(self) -> list[ListenerStats]: ...
    @property
    def servers(self) -> list[ServerStats]: ...
    @property
    def relay(self) -> RelayStats: ...

@final
class DataPlane:
    def __new__(cls, *, workers: int) -> DataPlane:
        """Start the worker threads. Nothing listens before the first `apply`."""
    def apply(self, *, spec: PlaneSpec) -> int:
        """Make `spec` the running one, at once and whole; the new generation number.

        Raises SpecError or BindError, and then nothing has changed.
        """
    def set_server_states(self, *, states: list[ServerState]) -> None:
        """Servers that aren't in the running snapshot are passed over."""
    def drain(self) -> None:
        """Stop listening (accept queues are emptied first); sessions go on."""
    def stats(self) -> Stats: ...
    def stop(self) -> None:
        """End every session and join the workers. A second call does nothing."""

def check(*, spec: PlaneSpec) -> None:
    """Raises SpecError as `apply` would; binds nothing."""
