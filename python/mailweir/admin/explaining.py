"""What would become of a client that connected now, and why. Called by the routes. Pure."""

from ipaddress import IPv4Address, IPv6Address

from mailweir.admin.views import Situation, servers, told_of_pause
from mailweir.config.listener import Listener
from mailweir.config.words import Balance, Forwarding, Protocol
from mailweir.errors import UnknownError
from mailweir.plane import ListenerStats

_WHY_NEXT = {
    Balance.LEAST_CONN: "the fewest sessions for its weight",
    Balance.ROUND_ROBIN: "it is its turn",
    Balance.RANDOM_TWO: "the fewer sessions of two that were picked by chance",
    Balance.SOURCE_HASH: "this source's hash",
    Balance.MAGLEV: "this source's hash",
    Balance.LEAST_LOAD: "the least load",
}


def explain(
    situation: Situation, client: IPv4Address | IPv6Address, listener: str | None
) -> dict[str, object]:
    """Of one listener, or of all that speak the client's IP version. Raises UnknownError."""
    of_name = {one.name: one for one in situation.stats.listeners}
    if listener is not None and listener not in of_name:
        raise UnknownError(f"there is no listener {listener}; there are {', '.join(of_name)}")
    asked = [listener] if listener else [n for n, one in of_name.items() if _suits(one, client)]
    return {
        "client": str(client),
        "listeners": [
            _at_listener(situation, client, of_name[name], situation.config.listeners[name])
            for name in asked
            if name in situation.config.listeners
        ],
    }


def _suits(listener: ListenerStats, client: IPv4Address | IPv6Address) -> bool:
    return any(address.startswith("[") == (client.version == 6) for address in listener.addresses)


def _at_listener(
    situation: Situation,
    client: IPv4Address | IPv6Address,
    stats: ListenerStats,
    configured: Listener,
) -> dict[str, object]:
    pool = configured.pool
    following = situation.next_server(pool, str(client))
    refused = _why_refused(situation, stats, configured)
    if refused is None and following is None:
        refused = f"no server of pool {pool} takes sessions"
    rows = [row for row in servers(situation) if row["pool"] == pool]
    return {
        "name": stats.name,
        "addresses": stats.addresses,
        "refused": refused,
        "sessions": stats.active,
        "max_sessions": configured.limits.sessions,
        "pool": pool,
        "balance": situation.config.pools[pool].balance,
        "next": following,
        "servers": [_server(situation, row, is_next=row["name"] == following) for row in rows],
        "relayed": _why_relayed(situation, client, configured),
    }


def _why_refused(situation: Situation, stats: ListenerStats, configured: Listener) -> str | None:
    """What keeps everybody out, in the order in which a session meets it; None where nothing."""
    if situation.stats.draining:
        return "the process is draining"
    if pause := told_of_pause(stats.name, situation):
        return f"paused {pause}"
    if situation.stats.active >= situation.stats.max_sessions:
        return f"the process has as many sessions as it may: {situation.stats.max_sessions}"
    most = configured.limits.sessions
    if most is not None and stats.active >= most:
        return f"the listener has as many sessions as it may: {most}"
    return None


def _server(situation: Situation, row: dict[str, object], *, is_next: bool) -> dict[str, object]:
    why_not = _why_not(row)
    if is_next:
        why = _WHY_NEXT[situation.config.pools[str(row["pool"])].balance]
    else:
        why = why_not or "it could be"
    return {
        "name": row["name"],
        "next": is_next,
        "usable": why_not is None,
        "why": why,
        "sessions": row["active"],
        "weight": row["weight"],
    }


def _why_not(row: dict[str, object]) -> str | None:
    """What keeps sessions off a server."""
    if row["state"] == "down":
        check = row["check"]
        if isinstance(check, dict) and not check["ok"]:
            return f"down: {check['step']}: {check['detail']}"
        return "down: not checked often enough yet"
    if row["state"] not in ("up", "panic"):
        return str(row["operator"] or row["state"])
    if not row["weight"]:
        return str(row["operator"] or "weight 0")
    most, now = row["max_sessions"], row["active"]
    if isinstance(most, int) and isinstance(now, int) and now >= most:
        return f"it has as many sessions as it may: {most}"
    return None


def _why_relayed(
    situation: Situation, client: IPv4Address | IPv6Address, configured: Listener
) -> str | None:
    """Why its session would surely not go through the kernel; None where it may."""
    stats = situation.stats
    if (configured.forwarding or situation.config.forwarding) is Forwarding.RELAY:
        return "forwarding: relay"
    if configured.protocol is not Protocol.SMTP:
        return f"protocol: {configured.protocol}"
    if client.version == 6:
        return "ipv6"
    if client.is_loopback:
        return "interface: loopback"
    if stats.kernel_path is None:
        return stats.no_kernel_path or "no listener has an address for the kernel path"
    return None
