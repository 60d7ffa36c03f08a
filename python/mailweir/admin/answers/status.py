"""The answer to `mailweir status`. Parts of it are on the page as well. Pure."""

from dataclasses import asdict
from typing import Any

from msgspec import Struct

from mailweir.admin.readiness import failing, panics, told_of_pause, unready
from mailweir.notices import REFUSALS
from mailweir.situation import Situation
from mailweir.spec import ServerState
from mailweir.state.overrides import Word, told
from mailweir.stats import Histogram, ListenerStats, Stats


def status(situation: Situation, *, shows_clients: bool = True) -> dict[str, object]:
    """The answer to `mailweir status`; where it isn't to show clients, without whom operators
    deny.
    """
    stats, reasons, said = situation.stats, unready(situation), situation.overrides
    words = said if shows_clients else said.model_copy(update={"denied": {}})
    return {
        "version": situation.version,
        "pid": situation.pid,
        "started": situation.started,
        "uptime_seconds": round(situation.uptime, 3),
        "workers": len(stats.workers),
        "ready": not reasons,
        "reasons": reasons,
        "panics": panics(situation),
        "failing": failing(situation),
        "draining": stats.draining,
        "before": _before(situation),
        "sessions": stats.active,
        "max_sessions": stats.max_sessions,
        "room": {**_figures(stats.room), "by": situation.room},
        "stuck_workers": stats.stuck_workers(),
        "log": _figures(stats.log),
        "stderr": {"dropped": situation.lines_dropped},
        "faults": [asdict(fault) for fault in situation.faults],
        "kernel_path": kernel_path(stats),
        "operator": {
            "words": [_word(what, word, situation) for what, word in words.words()],
            "denied": len(said.denied),
            "not_kept": situation.not_kept,
        },
        "ha": role(situation),
        "generation": situation.last_load.generation,
        "admin": {"problem": situation.socket_problem},
        "config": {"file": situation.config_file, "last_load": asdict(situation.last_load)},
        "listeners": listeners(situation),
        "pools": pools(situation),
    }


def _before(situation: Situation) -> dict[str, int] | None:
    """The process before this one, where it has sessions still; None where none has."""
    if situation.before is None:
        return None
    pid, sessions = situation.before
    return {"pid": pid, "sessions": sessions}


def role(situation: Situation) -> dict[str, object] | None:
    """What this node is in a pair; None where nobody has told."""
    found = situation.role
    if found is None:
        return None
    age = round(situation.moment - found.moment, 3)
    told = {"role": found.role, "by": found.by, "at": found.at, "age_seconds": age}
    return {**told, "alarms": found.alarms, "slower_checks": found.slowness}


def kernel_path(stats: Stats) -> dict[str, object] | None:
    """How the kernel path is; None where it isn't wanted."""
    path = stats.kernel_path
    if path is None:
        why = stats.no_kernel_path
        return {"why_not": why.told} if why else None
    return {"why_not": None, **_figures(path)}


def _word(what: str, word: Word, situation: Situation) -> dict[str, object]:
    return {
        "what": what,
        "by": word.by,
        "behind": word.behind,
        "why": word.why,
        "at": word.at,
        "until": word.until,
        "told": told(word, situation.now),
    }


def listeners(situation: Situation) -> list[dict[str, Any]]:
    """Each with its figures."""
    return [_listener(listener, situation) for listener in situation.stats.listeners]


def _listener(listener: ListenerStats, situation: Situation) -> dict[str, Any]:
    configured = situation.config.listeners.get(listener.name)
    # One that is gone from the configuration has its last sessions.
    reasons = unready(situation, listener.name) if configured else ["it is being closed"]
    return {
        **_figures(listener),
        "protocol": configured.protocol if configured else None,
        "pool": configured.pool if configured else None,
        "max_sessions": configured.limits.sessions if configured else None,
        "paused": told_of_pause(listener.name, situation),
        "ready": not reasons,
        "reasons": reasons,
        "refused": {why: n for why in REFUSALS if (n := listener.ended.get(why, 0))},
    }


def pools(situation: Situation) -> list[dict[str, Any]]:
    """Each with its figures."""
    config = situation.config
    figures = {pool.name: _figures(pool) for pool in situation.stats.pools}
    return [
        {
            "name": name,
            **figures.get(name, {"waiting": 0, "sticky": None, "overflow": None}),
            "balance": config.pools[name].balance if name in config.pools else None,
            "servers": len(of_pool),
            "up": sum(server.state == ServerState.UP for server in of_pool),
            "ejected": sum(server.state == ServerState.EJECTED for server in of_pool),
            "panic": any(server.state == ServerState.PANIC for server in of_pool),
            "active": sum(server.active for server in of_pool),
        }
        for name, of_pool in situation.members.items()
    ]


def _figures(of: Struct) -> dict[str, Any]:
    """All figures of something by the names that `stats` gives them, so that a new one comes by
    itself. Of counts by reason those that are zero are left out; times are in /metrics alone.
    """
    figures = {name: getattr(of, name) for name in of.__struct_fields__}
    return {name: _figure(value) for name, value in figures.items() if not _is_times(value)}


def _figure(value: object) -> object:
    if isinstance(value, Struct):
        return _figures(value)
    if isinstance(value, dict):
        return {reason: count for reason, count in value.items() if count}
    return value


def _is_times(value: object) -> bool:
    return isinstance(value, Histogram)
