"""What would become of a client that connected now, and why. Called by the routes. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

from mailweir.admin.answers.servers import servers
from mailweir.admin.readiness import told_of_pause
from mailweir.admin.standing import counted
from mailweir.config.kinds import parse_ip
from mailweir.config.listener import Listener
from mailweir.config.pool import Pool
from mailweir.config.words import Balance, DryRun, Forwarding, Others, Protocol
from mailweir.errors import UnknownError
from mailweir.situation import Situation
from mailweir.spec import ServerKey, ServerState
from mailweir.state.overrides import told
from mailweir.stats import Admission, ListenerStats

Client = IPv4Address | IPv6Address
_ONLY_COUNTED = "which is only counted (dry_run)"
# A server as `servers` tells of it.
Row = Mapping[str, Any]

_WHY_NEXT = {
    Balance.LEAST_CONN: "the fewest sessions for its weight",
    Balance.ROUND_ROBIN: "it is its turn",
    Balance.RANDOM_TWO: "the fewer sessions of two at random; the next time it may be another",
    Balance.SOURCE_HASH: "the client's address hashes to it",
    Balance.MAGLEV: "the client's address hashes to it",
    Balance.LEAST_LOAD: "the least load: sessions, time to greeting and bytes for its weight",
}


def client_of(text: str) -> Client:
    """An address as listeners see it: without the zone that it is in, and IPv4 as such. Raises
    ValueError.
    """
    client = parse_ip(text)
    if isinstance(client, IPv6Address):
        return client.ipv4_mapped or IPv6Address(int(client))
    return client


def explain(situation: Situation, client: Client, listener: str | None) -> dict[str, object]:
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


def _suits(listener: ListenerStats, client: Client) -> bool:
    return any(address.startswith("[") == (client.version == 6) for address in listener.addresses)


def _at_listener(
    situation: Situation, client: Client, stats: ListenerStats, configured: Listener
) -> dict[str, object]:
    name = configured.pool
    pool = situation.config.pools[name]
    following = situation.next_server(name, str(client))
    every = list(servers(situation))
    rows = [row for row in every if row["pool"] == name]
    queue = _queue(situation, name, pool)
    access = _access(situation, configured, client)
    admission = situation.admission(stats.name, str(client))
    refused = _why_refused(situation, stats, configured, access, admission.refused)
    if refused is None and following is None:
        refused = _why_nobody(name, pool, queue, rows)
    return {
        "name": stats.name,
        "addresses": stats.addresses,
        "refused": refused,
        "access": access,
        "limits": [*_limits(configured, client, admission)],
        "sessions": stats.active,
        "max_sessions": configured.limits.sessions,
        "pool": name,
        "balance": pool.balance,
        "next": following.server if following else None,
        "next_pool": following.pool if following else None,
        "overflow": _overflow(situation, name, pool, following),
        "queue": queue,
        "servers": [
            row
            for one in (name, *pool.overflow)
            for row in _of_pool(
                one, _rested(every, following), situation.config.pools[one], following
            )
        ],
        "relayed": _why_relayed(situation, client, configured),
    }


def _rested(every: Sequence[Row], following: ServerKey | None) -> Sequence[Row]:
    """Servers, of which those that a panic would try aren't where no server is next: each of them
    has failed a session and is left alone for a while.
    """
    if following is not None:
        return every
    return [{**row, "rests": row["state"] == ServerState.PANIC} for row in every]


def _of_pool(
    name: str, every: Sequence[Row], pool: Pool, following: ServerKey | None
) -> Iterator[dict[str, object]]:
    rows = [row for row in every if row["pool"] == name]
    for row in rows:
        is_next = following == ServerKey(name, row["name"])
        yield {"pool": name, **_server(row, rows, pool, is_next=is_next)}


def _overflow(
    situation: Situation, name: str, pool: Pool, following: ServerKey | None
) -> str | None:
    """Why the pool's own servers come first, or others do; None where there are no others."""
    found = next((one.overflow for one in situation.stats.pools if one.name == name), None)
    if not pool.overflow or found is None:
        return None
    others = " or ".join(pool.overflow)
    match found.course:
        case "home" if following and following.pool != name:
            return f"every server of {name} is full: this one goes to {following.pool}"
        case "home":
            return f"{others} where {name} has no server for a session"
        case "elsewhere":
            return f"to {others}: no server of {name} is up, or not for long enough"
        case _:
            return f"{int(found.share * 100)}% go to {name} again, the rest to {others}"


def _why_refused(
    situation: Situation,
    stats: ListenerStats,
    configured: Listener,
    access: str | None,
    reason: str | None,
) -> str | None:
    """What is against a client; None where nothing is. `reason` is the data plane's."""
    if situation.stats.draining:
        return "the process is draining"
    if pause := told_of_pause(stats.name, situation):
        return f"paused {pause}"
    match reason:
        case None:
            return None
        case "denied":
            return f"denied: {access}"
        case "source_sessions" | "source_rate":
            return _limit(DryRun(reason), configured)
        case "full" if counted(situation) >= situation.stats.max_sessions:
            return f"the process has as many sessions as it may: {situation.stats.max_sessions}"
        case "full" if stats.active >= (configured.limits.sessions or stats.active + 1):
            return _limit(DryRun.SESSIONS, configured)
        case "full":
            room = situation.stats.room.sessions
            return f"there is room for {room} sessions outside the kernel: {situation.room}"
        case reason:
            return reason.replace("_", " ")


def _limit(met: DryRun, configured: Listener) -> str:
    limits = configured.limits
    match met:
        case DryRun.SOURCE_SESSIONS:
            return f"its source has as many sessions as it may: {limits.per_source.sessions}"
        case DryRun.SOURCE_RATE:
            return f"its source comes more often than it may: {limits.per_source.rate}"
        case _:
            return f"the listener has as many sessions as it may: {limits.sessions}"


def _limits(configured: Listener, client: Client, admission: Admission) -> Iterator[str]:
    """Limits that don't count for a client, or count only as tried out. That of lists, which is
    one of them, is said with the prefix.
    """
    exempt = configured.limits.per_source.exempt.every
    if prefix := next((one for one in _prefixes_of(client) if one in exempt), None):
        yield f"`exempt` has {prefix}"
    for met in admission.would_refuse:
        if met != DryRun.ACCESS:
            yield f"{_limit(DryRun(met), configured)}, {_ONLY_COUNTED}"


def _access(situation: Situation, configured: Listener, client: Client) -> str | None:
    """What an operator or the listener's lists say of a client; None where nothing does."""
    held, denied = _prefixes_of(client), situation.overrides.denied
    for prefix in held:
        if prefix in denied:
            return f"deny {prefix} {told(denied[prefix], situation.now)}"
    allow, deny = configured.lists_in_effect
    found = {prefix: "deny" for prefix in deny if prefix in held}
    found |= {prefix: "allow" for prefix in allow if prefix in held}
    is_counted_only = DryRun.ACCESS in _dry_run(configured)
    unless = f", {_ONLY_COUNTED}" if is_counted_only else ""
    for prefix in held:
        if prefix in found:
            return f"`{found[prefix]}` has {prefix}{unless if found[prefix] == 'deny' else ''}"
    if configured.others_in_effect is Others.ADMIT:
        return None
    return f"`allow` hasn't this address{unless}" if allow else f"`others: refuse`{unless}"


def _prefixes_of(client: Client) -> dict[str, None]:
    """Every prefix that holds a client, the longest first, as the lists write them."""
    lengths = range(client.max_prefixlen, -1, -1)
    return {str(ip_network((client, length), strict=False)): None for length in lengths}


def _dry_run(configured: Listener) -> Sequence[DryRun]:
    given = configured.limits.dry_run
    return ([*DryRun] if given else []) if isinstance(given, bool) else given


def _queue(situation: Situation, name: str, pool: Pool) -> dict[str, float] | None:
    """Where sessions wait for a place; None where they can't."""
    if pool.queue is None:
        return None
    waiting = next((one.waiting for one in situation.stats.pools if one.name == name), 0)
    return {"waiting": waiting, "length": pool.queue.length, "wait": pool.queue.wait}


def _why_nobody(
    name: str, pool: Pool, queue: Mapping[str, float] | None, rows: Sequence[Row]
) -> str | None:
    """Why a client gets no server; None where it would wait for one. `rows` are the pool's own."""
    if queue is None or not any(_is_used(row) for row in rows):
        nor = f", nor of {' or '.join(pool.overflow)}" if pool.overflow else ""
        return f"no server of pool {name}{nor} takes sessions"
    if queue["waiting"] >= queue["length"]:
        return f"every server of pool {name} is full, and so is its queue: {queue['length']}"
    return None


def _server(row: Row, rows: Sequence[Row], pool: Pool, *, is_next: bool) -> dict[str, object]:
    why_not = _why_not(row)
    # Full ones are in use too: then sessions wait or are refused.
    others = any(_is_used(one) and not one["backup"] for one in rows)
    if why_not is None and row["backup"] and others:
        why_not = "a backup, and others are in use"
    if is_next:
        why = _why_next(pool)
    else:
        why = why_not or "it could be"
    if is_next or why_not is None:
        why = "; ".join((why, *_unusual(row)))
    return {
        "name": row["name"],
        "next": is_next,
        "usable": is_next or why_not is None,
        "why": why,
        "sessions": row["active"],
        "weight": row["weight"],
    }


def _why_next(pool: Pool) -> str:
    why = _WHY_NEXT[pool.balance]
    return f"it had this client's last session, or else {why}" if pool.sticky else why


def _unusual(row: Row) -> Iterator[str]:
    """How a server is used that isn't just up."""
    if row["backup"]:
        yield "a backup: no other is in use"
    if row["state"] == ServerState.PANIC:
        yield "tried although it is down (panic)"
    elif row["ramp"] < 1:
        yield f"slow start: {int(row['ramp'] * 100)}% of its weight"


def _is_used(row: Row) -> bool:
    """Whether sessions go there as long as there is room."""
    return row["state"] in (ServerState.UP, ServerState.PANIC) and row["weight"] > 0


def _why_not(row: Row) -> str | None:
    """What keeps sessions off a server."""
    if row["ejected"]:
        return f"ejected: {row['ejected']['reason']}"
    if row["state"] == ServerState.DOWN:
        check = row["check"]
        if check and not check["ok"]:
            return f"down: {check['step']}: {check['detail']}"
        return f"down: {row['by_checks'] or 'not checked often enough yet'}"
    if row["by_checks"] and not _is_used(row):
        return f"{row['state']}: {row['by_checks']}"
    if not _is_used(row):
        return str(row["operator"] or (row["state"] if row["weight"] else "weight 0"))
    most = row["max_sessions"]
    if most is not None and row["active"] >= most:
        return f"it has as many sessions as it may: {most}"
    if row.get("rests"):
        return "it failed a session, and is left alone for 10 s (panic)"
    return None


def _why_relayed(situation: Situation, client: Client, configured: Listener) -> str | None:
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
        why = stats.no_kernel_path
        return why.told if why else "no listener has an address for the kernel path"
    return None
