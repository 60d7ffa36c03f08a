"""The answer to `mailweir servers`: each with its state, its load and its last check. Pure."""

from mailweir.situation import Situation
from mailweir.spec import ServerKey
from mailweir.state.overrides import told
from mailweir.stats import ServerStats


def servers(situation: Situation) -> list[dict[str, object]]:
    """The answer to `mailweir servers`, in the file's order."""
    return [_server(server, situation) for server in situation.servers]


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
