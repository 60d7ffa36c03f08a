"""What operators are told of a pair: both nodes as this one knows them, and in sentences why. Pure.

Called by `admin` and `metrics`; `text` makes lines of it.
"""

from collections.abc import Mapping
from typing import Any

from mailweir.admin.text import span
from mailweir.ha.machine import judging
from mailweir.ha.machine.known import Known
from mailweir.ha.machine.wire import Flag, State


def status(known: Known, now: float) -> dict[str, Any]:
    """`GET /api/v1/status`."""
    return {
        "node": known.settings.node,
        "state": str(known.state),
        "since_seconds": now - known.since,
        "why": known.why,
        "sentence": _sentence(known, now),
        "holds": known.holding,
        "takeovers": known.takeovers,
        "redundant": judging.is_redundant(known, now),
        "lost_sessions": known.lost_sessions,
        "term": known.term,
        "nodes": [_own(known, now), _peer(known, now)],
        "links": _links(known, now),
        "witness": _witness(known, now),
        "gateway_answers": known.gateway_answers if known.settings.gateways else None,
        "alarms": list(known.alarms.values()),
        "words": _words(known, now),
    }


def explain(known: Known, now: float) -> dict[str, Any]:
    """`GET /api/v1/explain`."""
    return {
        "node": known.settings.node,
        "state": str(known.state),
        "sentence": _sentence(known, now),
        "peer": _of_peer(known, now),
        "alarms": list(known.alarms.values()),
    }


def _sentence(known: Known, now: float) -> str:
    """What this node is, for how long, why, and what would change it."""
    node, why, since = known.settings.node, known.why, span(now - known.since)
    match known.state:
        case State.ACTIVE:
            words = f"{node} has been active for {since}; it took over because {why}."
            health = known.health.why
            return f"{words} Its balancer isn't well: {health}." if health else words
        case State.BACKUP if obstacle := judging.obstacle(known):
            return f"{node} has stood by for {since} and can't take over: {obstacle}."
        case State.BACKUP:
            return f"{node} has stood by for {since}: {why}."
        case State.CANDIDATE:
            return _candidate(known)
        case State.RELEASING:
            return f"{node} gives the addresses up: {why}."
        case State.FAULT:
            words = f"{node} has been in fault for {since}: {why}."
            return f"{words} It stands by again once that is over."
        case State.MAINT:
            words = f"{node} has been in maintenance for {since} and takes nothing over: {why}."
            return f"{words} `mailweir ha ready` ends it."
    return f"{node} listens for {known.settings.peer} before it decides: {why}."


def _candidate(known: Known) -> str:
    node, why = known.settings.node, known.why
    against = [known.alarms[key] for key in ("held", "quorum", "fence") if key in known.alarms]
    if against:
        return f"{node} would take over because {why}, but {' and '.join(against)}."
    return f"{node} is about to take over because {why}."


def _of_peer(known: Known, now: float) -> str:
    """The same of the other one, as far as that is known."""
    told, name = known.peer.message, known.settings.peer
    if told is None or known.is_silent(now):
        return _of_silent_peer(known, now)
    if known.state is State.ACTIVE:
        if told.state is State.ACTIVE:
            return f"{name} says that it is active as well; one of them lets go in a moment."
        if against := judging.why_peer_can_not(known, now) or judging.would_be_cut_off(known, told):
            return f"Nobody could take over now: {against}."
        if against := judging.why_not_switch(known, now):
            return f"{name} could take over, but a switch is refused: {against}."
        return f"{name} could take over."
    if known.state is State.BACKUP and told.state is State.ACTIVE and not judging.obstacle(known):
        if judging.sees_others(known, now) and (
            known.sees_witness(now) or not known.settings.strict
        ):
            return "It could take over."
        return f"It would not take over: {judging.sees_nobody(known)}."
    return f"{name} {judging.DOES[told.state]}."


def _of_silent_peer(known: Known, now: float) -> str:
    name = known.settings.peer
    if known.peer.message is None:
        words = f"Nothing has been heard of {name} yet"
    else:
        words = f"Nothing has been heard of {name} for {span(now - known.peer.heard_at)}"
    if known.state is State.INIT:
        return f"{words}."
    words += ": it is down, `mailweir ha run` doesn't run there, or no link works"
    if known.state is State.ACTIVE:
        return f"{words}; in the last case it may be active as well."
    if known.state in (State.FAULT, State.MAINT):
        return f"{words}. Unless it is active, nobody is."
    return f"{words}."


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


def _words(known: Known, now: float) -> list[dict[str, Any]]:
    """What operators have said at one node alone, with what repeats it at the other."""
    s, words = known.settings, known.words
    sides = ((s.peer, words.missing(now)), (s.node, words.unshared(now)))
    return [
        {"only": name, "what": one.what, "command": one.command(now)}
        for name, said in sides
        for one in said
    ]


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
