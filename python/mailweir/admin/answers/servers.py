"""The answer to `mailweir servers`: each with its state, its load and its last check; and of one
server with all its checks. Pure.
"""

from collections.abc import Iterator
from typing import Any

from mailweir.config.model import MAIN_CHECK
from mailweir.config.words import Decides
from mailweir.errors import UnknownError
from mailweir.situation import CheckResult, CheckTold, Situation
from mailweir.spec import ServerKey, ServerState
from mailweir.state.desired import Health
from mailweir.state.overrides import told
from mailweir.stats import ServerStats


def servers(situation: Situation) -> list[dict[str, Any]]:
    """The answer to `mailweir servers`, in the file's order."""
    return [_server(server, situation) for server in situation.servers]


def _server(server: ServerStats, situation: Situation) -> dict[str, Any]:
    key = ServerKey(server.pool, server.name)
    pool = situation.config.pools.get(server.pool)
    configured = pool.servers.get(server.name) if pool else None
    caps = [configured.max_sessions if configured else None]
    caps += [check.cap for check in situation.checks(key)]
    return {
        "pool": server.pool,
        "name": server.name,
        "address": server.address,
        "state": server.state,
        "ramp": round(server.ramp, 3),
        "backup": server.backup,
        "weight": server.weight,
        "operator": _told_of(key, situation),
        "max_sessions": min(filter(None, caps), default=None),
        "proxy": configured.proxy if configured else None,
        "active": server.active,
        "sessions": server.sessions,
        "connect_failures": sum(server.connect_failures.values()),
        "greeting_failures": sum(server.greeting_failures.values()),
        "check": _check(key, situation),
        "by_checks": _by_checks(server, situation),
        "ejected": _ejected(server, situation),
        "alarms": list(_alarms(key, situation)),
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
    """The last one of the pool's own check."""
    checks = situation.checks(key)
    if not checks or not checks[0].results:
        return None
    return {"kind": checks[0].kind, **_result(checks[0].results[-1], situation)}


def _alarms(key: ServerKey, situation: Situation) -> Iterator[str]:
    """What somebody should see to; of the pool's own check what its last result doesn't say."""
    for check in situation.checks(key):
        if check.name == MAIN_CHECK:
            said = check.results[-1].alarm if check.results else ""
        else:
            said = check.alarm
        if said:
            yield f"{check.name}: {said}"


def _result(result: CheckResult, situation: Situation) -> dict[str, object]:
    return {
        "ok": result.ok,
        "verdict": result.verdict,
        "step": result.step,
        "detail": result.detail,
        "seconds": round(result.seconds, 4),
        "age_seconds": round(situation.moment - result.at, 1),
    }


def _ejected(server: ServerStats, situation: Situation) -> dict[str, object] | None:
    """Why spoiled sessions keep a server from new ones, and for how long; None where they don't."""
    ejection = situation.ejection(ServerKey(server.pool, server.name))
    if ejection is None or server.state != ServerState.EJECTED:
        return None
    left = max(0.0, ejection.until - situation.moment)
    return {
        "reason": ejection.reason,
        "times": ejection.times,
        "left_seconds": round(left, 1),
        "until": round(situation.now + left, 1),
    }


def _by_checks(server: ServerStats, situation: Situation) -> str | None:
    """Which check keeps a server from sessions, and why; None where none does."""
    key = ServerKey(server.pool, server.name)
    in_order = (ServerState.UP, ServerState.EJECTED)
    if server.state in in_order or situation.overrides.server_state(key):
        return None
    checks = situation.checks(key)
    for check in checks:
        if check.wished:
            return f"{check.name}: the agent says {check.wished}"
    for check in checks:
        if check.decides is Decides.STATE and check.health in (Health.DOWN, Health.DRAIN):
            if not check.results:
                return f"{check.name}: not checked yet"
            last = check.results[-1]
            return f"{check.name}: {check.alarm if last.ok else last.detail}"
    return None


def server(situation: Situation, key: ServerKey) -> dict[str, object]:
    """The answer to `mailweir servers POOL/SERVER`. Raises UnknownError."""
    found = [one for one in situation.members.get(key.pool, ()) if one.name == key.server]
    if not found:
        raise UnknownError(f"there is no server {key}; `mailweir servers` lists all")
    return {
        **_server(found[0], situation),
        "checks": [_check_in_full(check, situation) for check in situation.checks(key)],
    }


def _check_in_full(check: CheckTold, situation: Situation) -> dict[str, object]:
    last = check.results[-1] if check.results else None
    return {
        "name": check.name,
        "kind": check.kind,
        "address": str(check.address),
        "decides": check.decides,
        "health": check.health,
        "alarm": check.alarm,
        "certificate_end": last.certificate_end if last else None,
        "agent": last.agent if last else "",
        # The newest first.
        "results": [_result(one, situation) for one in reversed(check.results)],
    }
