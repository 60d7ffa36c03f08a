"""What the balancer's answers say: the rows of the table, events, sessions a second. Pure."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_WINDOW = 5.0  # seconds that sessions a second are taken over


@dataclass(frozen=True, slots=True)
class ServerRow:
    """One server, as the balancer and the farm see it."""

    name: str
    state: str
    sessions: int
    active: int
    mails: int | None  # None where the server isn't one of the farm's
    failed_connects: int
    check_ok: bool
    check: str


@dataclass(frozen=True, slots=True)
class View:
    """All there is to show at one moment."""

    seconds: float
    rows: tuple[ServerRow, ...]
    sent: int
    delivered: int
    failed: int
    lost: int
    duplicates: int
    sessions_per_second: float


class Watch:
    """Compares each answer with the ones before."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._told: dict[str, int] = {}  # failed connects that an event spoke of, or older
        self._counts: deque[tuple[float, int]] = deque()

    @property
    def sessions_per_second(self) -> float:
        """Sessions given to servers, over the last seconds."""
        if len(self._counts) < 2:
            return 0.0
        (first, low), (last, high) = self._counts[0], self._counts[-1]
        return max(0, high - low) / (last - first)

    def look(self, servers: Sequence[Mapping[str, Any]], now: float) -> list[str]:
        """What happened since the last look, a sentence each."""
        self._counts.append((now, sum(server["sessions"] for server in servers)))
        while len(self._counts) > 2 and self._counts[1][0] <= now - _WINDOW:
            self._counts.popleft()
        events = []
        for server in servers:
            name, state, failed = server["name"], server["state"], server["connect_failures"]
            before = self._states.get(name, state)
            if before != state:
                events.append(_change(server, failed - self._told[name]))
            if before != state or name not in self._told:
                self._told[name] = failed
            self._states[name] = state
        return events


def rows(servers: Sequence[Mapping[str, Any]], mails: Mapping[str, int]) -> tuple[ServerRow, ...]:
    """The table's rows, in the configuration's order."""
    return tuple(
        ServerRow(
            name=server["name"],
            state=server["state"],
            sessions=server["sessions"],
            active=server["active"],
            mails=mails.get(server["name"]),
            failed_connects=server["connect_failures"],
            check_ok=server["check"] is not None and server["check"]["ok"],
            check=_check(server["check"]),
        )
        for server in servers
    )


def _change(server: Mapping[str, Any], failed: int) -> str:
    name, check = server["name"], server["check"]
    match server["state"]:
        case "up":
            return f"checks found {name} up, sessions go there again"
        case "down":
            cause = f" ({check['step']}: {check['detail']})" if check and not check["ok"] else ""
            met = f"; {_sessions(failed)} had met it and gone to another server" if failed else ""
            return f"checks found {name} down{cause}{met}"
        case state:
            return f"{name} is in state {state}"


def _sessions(count: int) -> str:
    return "1 session" if count == 1 else f"{count} sessions"


def _check(check: Mapping[str, Any] | None) -> str:
    if check is None:
        return "not yet"
    if check["ok"]:
        return f"{check['kind']} ok in {check['seconds'] * 1000:.0f} ms"
    return f"{check['step']}: {check['detail']}"
