"""The answer to `mailweir status`. Parts of it are on the page as well. Pure."""

from dataclasses import asdict

from mailweir.admin.readiness import panics, told_of_pause, unready
from mailweir.notices import REFUSALS
from mailweir.situation import Situation
from mailweir.spec import ServerState
from mailweir.state.overrides import Word, told
from mailweir.stats import ListenerStats, SourcesStats, Stats, StickyStats


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
