"""What operators are told of a pair: both nodes as this one knows them, and in sentences why. Pure.

Called by `admin` and `metrics`; `text` makes lines of it.
"""

from collections.abc import Mapping
from typing import Any

from mailweir.ha import judging
from mailweir.ha.known import Known
from mailweir.ha.wire import Flag, State


def status(known: Known, now: float) -> dict[str, Any]:
    """`GET /api/v1/status`."""
    return {
        "node": known.settings.node,
        "state": str(known.state),
        "since_seconds": now - known.since,
        "why": known.why,
        "holds": known.holding,
        "takeovers": known.takeovers,
        "term": known.term,
        "nodes": [_own(known, now), _peer(known, now)],
        "links": _links(known, now),
        "witness": _witness(known, now),
        "gateway_answers": known.gateway_answers if known.settings.gateways else None,
        "alarms": list(known.alarms.values()),
    }


def explain(known: Known, now: float) -> dict[str, Any]:
    """`GET /api/v1/explain`."""
    return {
        "node": known.settings.node,
        "state": str(known.state),
        "sentence": _sentence(known),
        "peer": _of_peer(known, now),
        "alarms": list(known.alarms.values()),
    }


def _sentence(known: Known) -> str:
    node, why = known.settings.node, known.why
    match known.state:
        case State.ACTIVE:
            worse = f"; but {known.health.why}" if known.health.why else ""
            return f"{node} is active; the reason when it took over: {why}{worse}."
        case State.BACKUP:
            return f"{node} stands by: {why}."
        case State.CANDIDATE:
            held = known.alarms.get("held") or known.alarms.get("quorum") or ""
            return f"{node} is about to take over, since {why}" + (
                f"; but {held}." if held else "."
            )
        case State.RELEASING:
            return f"{node} gives the addresses up: {why}."
        case State.FAULT:
            return f"{node} can't have the addresses: {why}."
        case State.MAINT:
            return f"{node} is in maintenance and takes nothing over: {why}."
    return f"{node} has just started and listens for {known.settings.peer}: {why}."


def _of_peer(known: Known, now: float) -> str:
    told, name = known.peer.message, known.settings.peer
    if told is None or known.is_silent(now):
        return f"Nothing is heard of {name}."
    if told.state is State.ACTIVE:
        return f"{name} is active."
    if known.state is State.ACTIVE:
        against = judging.why_peer_can_not(known, now)
        return f"It couldn't take over now: {against}." if against else f"{name} could take over."
    return f"{name} is {told.state}."


def _own(known: Known, now: float) -> dict[str, Any]:
    health, s = known.health, known.settings
    return {
        "name": s.node,
        "state": str(known.state),
        "holds": known.holding,
        "priority": known.priority(),
        "servers": health.servers,
        "up": health.up,
        "sessions": health.sessions,
        "configuration": health.config_digest.hex(),
        "pair": s.pair_digest.hex(),
        "heard_seconds": 0.0,
        "flags": _flags(known.flags(now)),
    }


def _peer(known: Known, now: float) -> dict[str, Any]:
    told = known.peer.message
    there: Mapping[str, Any] = {}
    if told is not None:
        there = {
            "state": str(told.state) if not known.is_silent(now) else "silent",
            "holds": Flag.HOLDS in told.flags,
            "priority": told.priority,
            "servers": told.servers,
            "up": told.up,
            "sessions": told.sessions,
            "configuration": told.config_digest.hex(),
            "pair": told.pair_digest.hex(),
            "heard_seconds": now - known.peer.heard_at,
            "flags": _flags(told.flags),
        }
    absent = dict.fromkeys(_own(known, now), None)
    return {**absent, "state": "silent", "flags": [], **there, "name": known.settings.peer}


def _flags(flags: Flag) -> list[str]:
    return [str(flag.name).lower() for flag in Flag if flag in flags]


def _links(known: Known, now: float) -> list[dict[str, Any]]:
    heard = known.peer.link_heard_at
    return [
        {"name": name, "heard_seconds": now - heard[number] if number in heard else None}
        for number, name in enumerate(known.settings.links, start=1)
    ]


def _witness(known: Known, now: float) -> dict[str, Any] | None:
    if not known.settings.witness:
        return None
    return {
        "heard_seconds": now - known.witness.heard_at if known.witness.message else None,
        "strict": known.settings.strict,
        "grants": now < known.granted_until,
    }
