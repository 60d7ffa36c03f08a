"""When new sessions may be sent here: where they would find a server. Pure.

Asked by `answers` of what the data plane shows, by `node_health` of what it was told. That every
server is full at the moment makes nobody unready: it passes, and an address that moves for it costs
sessions.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from mailweir.situation import Situation
from mailweir.spec import ServerState
from mailweir.state.overrides import Overrides, author

# Servers that a reason names.
_MOST_NAMED = 4
# States of servers that no operator took out of use.
_BY_THEMSELVES = (ServerState.UP, ServerState.DOWN, ServerState.PANIC, ServerState.EJECTED)


class Member(Protocol):
    """A server of a pool, as it is used."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def weight(self) -> int: ...


def unready(situation: Situation, listener: str | None = None) -> list[str]:
    """Why new sessions shouldn't be sent here, or to one listener; empty where they may."""
    listeners = situation.config.listeners
    wanted = listeners if listener is None else {listener: listeners[listener]}
    used = dict.fromkeys(one.pool for one in wanted.values())
    reasons = why_unready(
        [_why_nowhere(pool, situation) for pool in used],
        draining=situation.stats.draining,
        listening=situation.listening,
        overrides=situation.overrides,
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
        meant = [one for one in of_pool if one.state in _BY_THEMSELVES and one.weight > 0]
        meant = [one for one in meant if not one.backup]
        up = sum(one.state == ServerState.UP for one in meant)
        others = situation.config.pools[name].overflow if name in situation.config.pools else []
        behind = f" where {' and '.join(others)} can't take a session" if others and not up else ""
        found.append(
            f"pool {name}: panic: {up} of {len(meant)} servers {'is' if up == 1 else 'are'} up,"
            f" those that are down are tried too{behind}"
        )
    return found


def failing(situation: Situation) -> list[str]:
    """Pools whose servers fail sessions and are used all the same. That makes nobody unready: most
    sessions find another server, and another node has the same ones.
    """
    return [
        f"pool {name}: {', '.join(servers)} fail{'s' if len(servers) == 1 else ''} sessions, and"
        f" {'is' if len(servers) == 1 else 'are'} used all the same: the others are no better, or"
        " no more may be ejected"
        for name, servers in situation.failing.items()
        if servers
    ]


def told_of_pause(listener: str, situation: Situation) -> str | None:
    """Who said, and why, that a listener takes nobody; None where nobody did."""
    pause = situation.overrides.pause_of(listener)
    return author(pause) if pause else None


def takes(server: Member) -> bool:
    """Whether new sessions are sent to it, and checks say that it can serve them. Of a pool in
    panic the servers that are down are tried too; that is no sign that they serve.
    """
    return server.state == ServerState.UP and server.weight > 0


def why_none(pool: str, servers: Iterable[Member]) -> str:
    """Why new sessions find no server in a pool; empty where they do."""
    members = list(servers)
    if any(takes(server) for server in members):
        return ""
    if all(server.state in (ServerState.DOWN, ServerState.PANIC) for server in members):
        return f"pool {pool}: no server is up"
    named = [_as_it_is(server) for server in members[:_MOST_NAMED]]
    more = len(members) - len(named)
    rest = [f"{more} more"] if more else []
    tried = any(server.state == ServerState.PANIC for server in members)
    what = "is up" if tried else "takes new sessions"
    return f"pool {pool}: no server {what}: {', '.join(named + rest)}"


def why_nowhere(pool: str, members: Mapping[str, Iterable[Member]], overflow: Sequence[str]) -> str:
    """The same, where its sessions may go to these other pools."""
    reason = why_none(pool, members.get(pool, ()))
    if not reason or not overflow:
        return reason
    others = (why_none(other, members.get(other, ())) for other in overflow)
    if not all(others):
        return ""
    return f"{reason}, nor does {' or '.join(overflow)} take its sessions"


def _why_nowhere(pool: str, situation: Situation) -> str:
    return why_nowhere(pool, situation.members, situation.config.pools[pool].overflow)


def why_unready(
    pools: Iterable[str], *, draining: bool, listening: bool, overrides: Overrides
) -> list[str]:
    """Why new sessions shouldn't be sent here; empty where they may. `pools` has a word of
    `why_none` for each pool that is used.
    """
    if draining:
        return ["draining: no new sessions are taken"]
    if not listening:
        return ["starting: the listeners aren't open yet"]
    if overrides.node:
        # For how long it was so isn't said: that would be another reason each minute.
        return [f"paused {author(overrides.node)}"]
    return [reason for reason in pools if reason]


def _as_it_is(server: Member) -> str:
    if server.state == ServerState.UP:
        return f"{server.name} has weight {server.weight}"
    if server.state == ServerState.PANIC:
        return f"{server.name} is down, and tried all the same"
    return f"{server.name} is in state {server.state}"
