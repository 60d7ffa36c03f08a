"""What the process says of itself, as plain values for JSON, page and readiness. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Protocol

from mailweir.admin.readiness import why_none, why_unready
from mailweir.config.model import Config
from mailweir.config.words import CheckKind, HaKeeper, HaRole
from mailweir.faults import Fault
from mailweir.notices import REFUSALS
from mailweir.spec import ServerKey, ServerState
from mailweir.state.overrides import Overrides, Word, told
from mailweir.stats import ListenerStats, ServerStats, Session, SourcesStats, Stats, StickyStats

# States of servers that no operator took out of use.
_BY_CHECKS = (ServerState.UP, ServerState.DOWN, ServerState.PANIC)


class LastCheck(Protocol):
    """The last check of a server, as the monitor keeps it."""

    @property
    def ok(self) -> bool: ...
    @property
    def step(self) -> str: ...
    @property
    def detail(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def at(self) -> float: ...


@dataclass(frozen=True, slots=True)
class ReloadOutcome:
    """How a reload went. `message` is the change in one sentence, or why there was none.

    `generation` is the number of the configuration that is in force afterwards: from 1 on, one
    more for each that differs from the one before.
    """

    ok: bool
    generation: int
    message: str
    at: float  # seconds since 1970
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """What a reload would change, or why there would be none."""

    changes: tuple[str, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RoleTold:
    """This node's role in a pair, who said so, and since when it has it."""

    role: HaRole
    by: HaKeeper
    at: float  # seconds since 1970
    moment: float  # the same on time.monotonic's clock
    alarms: int  # of `mailweir ha run`


@dataclass(frozen=True)
class Situation:
    """The process at one moment, as the daemon hands it out."""

    version: str
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
    last_check: Callable[[ServerKey], LastCheck | None]
    next_server: Callable[[str, str], str | None]  # pool, client
    # Listener and client: the end reason by which it would be refused, None where it is let in.
    admission: Callable[[str, str], str | None]
    role: RoleTold | None  # in a pair; None where nobody has told

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

    @cached_property
    def check_kinds(self) -> dict[str, CheckKind]:
        """What servers are asked, by pool. Made once: each server asks for it."""
        return {name: self.config.check_kind(name) for name in self.config.pools}


def unready(situation: Situation, listener: str | None = None) -> list[str]:
    """Why new sessions shouldn't be sent here, or to one listener; empty where they may."""
    listeners = situation.config.listeners
    wanted = listeners if listener is None else {listener: listeners[listener]}
    used = dict.fromkeys(one.pool for one in wanted.values())
    reasons = why_unready(
        [why_none(pool, situation.members.get(pool, [])) for pool in used],
        draining=situation.stats.draining,
        listening=situation.listening,
        overrides=situation.overrides,
        now=situation.now,
    )
    paused = {name: told_of_pause(name, situation) for name in wanted}
    if not reasons and all(paused.values()):
        return [f"listener {name}: paused {said}" for name, said in paused.items()]
    return reasons


def panics(situation: Situation) -> list[str]:
    """Pools whose servers are tried although they are down. That alone makes nobody unready."""
    found = []
    for name, of_pool in situation.members.items():
        if not any(server.state == ServerState.PANIC for server in of_pool):
            continue
        meant = [one for one in of_pool if one.state in _BY_CHECKS and one.weight > 0]
        meant = [one for one in meant if not one.backup]
        up = sum(one.state == ServerState.UP for one in meant)
        found.append(
            f"pool {name}: panic: {up} of {len(meant)} servers {'is' if up == 1 else 'are'} up,"
            " those that are down are tried too"
        )
    return found


def status(situation: Situation) -> dict[str, object]:
    """The answer to `mailweir status`."""
    stats, reasons = situation.stats, unready(situation)
    return {
        "version": situation.version,
        "pid": situation.pid,
        "started": situation.started,
        "uptime_seconds": round(situation.uptime, 3),
        "workers": len(stats.workers),
        "ready": not reasons,
        "reasons": reasons,
        "panics": panics(situation),
        "draining": stats.draining,
        "sessions": stats.active,
        "max_sessions": stats.max_sessions,
        "room": {
            "sessions": stats.room.sessions,
            "held": stats.room.held,
            "by": situation.room,
            "spare": stats.room.spare,
            "lingering": stats.room.lingering,
            "overdue": stats.room.overdue,
            "hurried": stats.room.hurried,
        },
        "stuck_workers": stats.stuck_workers(),
        "log": {
            "lines": stats.log.lines,
            "dropped": stats.log.dropped,
            "last_error": stats.log.last_error,
        },
        "stderr": {"dropped": situation.lines_dropped},
        "faults": [asdict(fault) for fault in situation.faults],
        "kernel_path": kernel_path(stats),
        "operator": {
            "words": [_word(what, word, situation) for what, word in situation.overrides.words()],
            "not_kept": situation.not_kept,
        },
        "ha": role(situation),
        "generation": situation.last_load.generation,
        "admin": {"problem": situation.socket_problem},
        "config": {"file": situation.config_file, "last_load": asdict(situation.last_load)},
        "listeners": [_listener(listener, situation) for listener in stats.listeners],
        "pools": _pools(situation),
    }


def role(situation: Situation) -> dict[str, object] | None:
    """What this node is in a pair; None where nobody has told."""
    found = situation.role
    if found is None:
        return None
    age = round(situation.moment - found.moment, 3)
    told = {"role": found.role, "by": found.by, "at": found.at, "age_seconds": age}
    return {**told, "alarms": found.alarms}


def kernel_path(stats: Stats) -> dict[str, object] | None:
    """How the kernel path is; None where it isn't wanted."""
    path = stats.kernel_path
    if path is None:
        return {"why_not": stats.no_kernel_path} if stats.no_kernel_path else None
    return {
        "why_not": None,
        "flows": path.flows,
        "places_taken": path.taken,
        "max_flows": path.max_flows,
        "handed_over": path.handed_over,
        "adopted": path.adopted,
        "taken_off": path.taken_off,
        "earlier": path.earlier,
        "unpinned": path.unpinned,
        "moved": path.moved,
        "not_at": path.not_at,
        "ends_with_process": path.ends_with_process,
        "refusals": {why: count for why, count in path.refusals.items() if count},
    }


def servers(situation: Situation) -> list[dict[str, object]]:
    """The answer to `mailweir servers`, in the file's order."""
    return [_server(server, situation) for server in situation.servers]


def session(session: Session) -> dict[str, object]:
    """One of the answers to `mailweir sessions`."""
    return {
        "id": session.id,
        "listener": session.listener,
        "client": session.client,
        "pool": session.pool,
        "server": session.server,
        "age_seconds": round(session.age, 3),
        "silent_seconds": round(session.silent, 3),
        # Nobody has yet: the client waits for the server.
        "spoke_last": session.spoke_last or "client",
        "received_bytes": session.received_bytes,
        "sent_bytes": session.sent_bytes,
        "tls": session.tls,
        "path": session.path,
        "tcpdump": _tcpdump(session.client, session.source) if session.source else None,
    }


def _tcpdump(*ends: str) -> str:
    """What shows both connections of a session that no socket shows any more (pcap-filter(7))."""
    legs = (address.rpartition(":") for address in ends)
    return " or ".join(f"(host {host} and tcp port {port})" for host, _, port in legs)


def _word(what: str, word: Word, situation: Situation) -> dict[str, object]:
    return {
        "what": what,
        "by": word.by,
        "at": word.at,
        "until": word.until,
        "told": told(word, situation.now),
    }


def _listener(listener: ListenerStats, situation: Situation) -> dict[str, object]:
    configured = situation.config.listeners.get(listener.name)
    # One that is gone from the configuration has its last sessions.
    reasons = unready(situation, listener.name) if configured else ["it is being closed"]
    return {
        "name": listener.name,
        "addresses": listener.addresses,
        "protocol": configured.protocol if configured else None,
        "pool": configured.pool if configured else None,
        "paused": told_of_pause(listener.name, situation),
        "ready": not reasons,
        "reasons": reasons,
        "active": listener.active,
        "accepted": listener.accepted,
        "refused": {why: n for why in REFUSALS if (n := listener.ended.get(why, 0))},
        "would_refuse": {limit: n for limit, n in listener.would_refuse.items() if n},
        "sources": _sources(listener.sources),
    }


def _sources(sources: SourcesStats | None) -> dict[str, int] | None:
    """None where a listener has no limits by source."""
    if sources is None:
        return None
    return {
        "entries": sources.entries,
        "places": sources.places,
        "evicted": sources.evicted,
        "untracked": sources.untracked,
    }


def told_of_pause(listener: str, situation: Situation) -> str | None:
    """What an operator said by which a listener takes nobody."""
    pause = situation.overrides.pause_of(listener)
    return told(pause, situation.now) if pause else None


def _pools(situation: Situation) -> list[dict[str, object]]:
    config = situation.config
    queues = {pool.name: pool for pool in situation.stats.pools}
    return [
        {
            "name": name,
            "balance": config.pools[name].balance if name in config.pools else None,
            "servers": len(of_pool),
            "up": sum(server.state == ServerState.UP for server in of_pool),
            "panic": any(server.state == ServerState.PANIC for server in of_pool),
            "active": sum(server.active for server in of_pool),
            "waiting": queues[name].waiting if name in queues else 0,
            "sticky": _sticky(queues[name].sticky) if name in queues else None,
        }
        for name, of_pool in situation.members.items()
    ]


def _sticky(sticky: StickyStats | None) -> dict[str, int] | None:
    """None where no client goes to where it was before."""
    if sticky is None:
        return None
    return {
        "entries": sticky.entries,
        "found": sticky.found,
        "made": sticky.made,
        "broken": sticky.broken,
        "evicted": sticky.evicted,
    }


def _server(server: ServerStats, situation: Situation) -> dict[str, object]:
    key = ServerKey(server.pool, server.name)
    pool = situation.config.pools.get(server.pool)
    configured = pool.servers.get(server.name) if pool else None
    return {
        "pool": server.pool,
        "name": server.name,
        "address": server.address,
        "state": server.state,
        "ramp": round(server.ramp, 3),
        "backup": server.backup,
        "weight": server.weight,
        "operator": _told_of(key, situation),
        "max_sessions": configured.max_sessions if configured else None,
        "proxy": configured.proxy if configured else None,
        "active": server.active,
        "sessions": server.sessions,
        "connect_failures": sum(server.connect_failures.values()),
        "greeting_failures": sum(server.greeting_failures.values()),
        "check": _check(key, situation),
    }


def _told_of(key: ServerKey, situation: Situation) -> str | None:
    """What an operator said of a server."""
    overrides, now = situation.overrides, situation.now
    words = []
    if state := overrides.states.get(str(key)):
        words.append(f"{state.state} {told(state, now)}")
    if weight := overrides.weights.get(str(key)):
        words.append(f"weight {weight.weight} {told(weight, now)}")
    return "; ".join(words) or None


def _check(key: ServerKey, situation: Situation) -> dict[str, object] | None:
    last = situation.last_check(key)
    if last is None:
        return None
    return {
        "kind": situation.check_kinds.get(key.pool, ""),
        "ok": last.ok,
        "step": last.step,
        "detail": last.detail,
        "seconds": round(last.seconds, 4),
        "age_seconds": round(situation.moment - last.at, 1),
    }
