"""What concerns more than one key of a listener: idle limits, limits by source, trials, paths.

Who is let in is `access_rules`' part. Called by `rules`. Pure.
"""

from collections.abc import Iterator

from mailweir.config.finding import Finding, Path, one_source
from mailweir.config.listener import Listener, PerSource, Timeouts
from mailweir.config.pool import Pool
from mailweir.config.units import format_duration
from mailweir.config.words import DryRun, Forwarding, Protocol

# RFC 5321, 4.5.3.2.6: the sender waits 10 min for the answer to the final dot.
_LEAST_IDLE_SERVER = 600.0
# Postfix's smtpd_timeout: its own 421 has to come first.
_LEAST_IDLE_CLIENT = 300.0
# A session with one message over a slow line.
_SHORT_AGE = 60.0


def listener_findings(path: Path, listener: Listener) -> Iterator[Finding]:
    """What is wrong or odd in one listener."""
    yield from _timeouts((*path, "timeouts"), listener.timeouts)
    yield from _per_source((*path, "limits", "per_source"), listener.limits.per_source)
    yield from _beyond_reach((*path, "limits", "per_source", "sessions"), listener)
    yield from _trials((*path, "limits", "dry_run"), listener)
    if 0 < listener.max_age < _SHORT_AGE:
        yield Finding(
            (*path, "max_age"),
            f"every session that lasts {format_duration(listener.max_age)} is cut, most of them"
            " behind their first message: what spreads long sessions is minutes",
            warning=True,
        )


def _timeouts(path: Path, timeouts: Timeouts) -> Iterator[Finding]:
    for name in ("connect", "greeting"):
        single: float = getattr(timeouts, name)
        if timeouts.accept_total <= single:
            # At the key that was written; the other one is at its default.
            key = "accept_total" if "accept_total" in timeouts.model_fields_set else name
            yield Finding(
                (*path, key),
                f"`accept_total` ({format_duration(timeouts.accept_total)}) must be longer than"
                f" `{name}` ({format_duration(single)}), or no second server is ever tried",
            )
    if timeouts.i_accept_duplicates:
        return
    if timeouts.idle_server < _LEAST_IDLE_SERVER:
        yield Finding(
            (*path, "idle_server"),
            "must be at least 600s: RFC 5321 gives a server 10 min to answer the final dot, and a"
            " session cut before that is sent again (`i_accept_duplicates: true` allows it)",
        )
    if timeouts.idle_client < _LEAST_IDLE_CLIENT:
        yield Finding(
            (*path, "idle_client"),
            "must be at least 300s: the server's own limit (Postfix: 300s) has to come first, so"
            " that the client gets its 421 (`i_accept_duplicates: true` allows it)",
        )


def _per_source(path: Path, limits: PerSource) -> Iterator[Finding]:
    if limits.burst is not None and limits.rate is None:
        yield Finding((*path, "burst"), "there is no `rate` that it belongs to")
    elif limits.sessions is None and limits.rate is None:
        if limits != PerSource():
            yield Finding(
                path, "limits nothing: there is neither `sessions` nor `rate`", warning=True
            )
    else:
        yield from one_source(path, limits.prefix4, limits.prefix6)


def _beyond_reach(path: Path, listener: Listener) -> Iterator[Finding]:
    of_source, of_all = listener.limits.per_source.sessions, listener.limits.sessions
    if of_source is not None and of_all is not None and of_source > of_all:
        yield Finding(
            path,
            f"is never reached: the listener takes {of_all} sessions of all sources together"
            " (`limits.sessions`)",
            warning=True,
        )


def _trials(path: Path, listener: Listener) -> Iterator[Finding]:
    """A trial of what isn't there shows that it would refuse nobody."""
    given, limits = listener.limits.dry_run, listener.limits
    there = {
        DryRun.ACCESS: bool(listener.allow.entries or listener.deny.entries or listener.others),
        DryRun.SOURCE_SESSIONS: limits.per_source.sessions is not None,
        DryRun.SOURCE_RATE: limits.per_source.rate is not None,
        DryRun.SESSIONS: limits.sessions is not None,
    }
    if given is True and not any(there.values()):
        yield Finding(path, "there is nothing to try: no list and no limit", warning=True)
    for word in () if isinstance(given, bool) else given:
        if not there[word]:
            what = "no `allow` and no `deny`" if word is DryRun.ACCESS else f"no limit `{word}`"
            yield Finding(path, f"`{word}` counts nothing: there is {what}", warning=True)


def path_findings(path: Path, listener: Listener, pool: Pool | None) -> Iterator[Finding]:
    """What is against `forwarding: kernel` where a listener itself insists on it."""
    if listener.forwarding is Forwarding.KERNEL and (why := why_relayed(listener, pool)):
        yield Finding((*path, "forwarding"), f"`kernel` can't be: {why}")


def why_relayed(listener: Listener, pool: Pool | None) -> str | None:
    """Why no session of a listener can go through the kernel; None where some may."""
    if listener.protocol is not Protocol.SMTP:
        return f"it is for `protocol: smtp`, and this is {listener.protocol}"
    servers = [server.address.ip for server in pool.servers.values()] if pool else []
    for which, ips in (
        ("the listener's addresses are", [bind.ip for bind in listener.bind]),
        ("its servers' addresses are", servers),
    ):
        if ips and all(ip.version == 6 for ip in ips):
            return f"it is for IPv4, and all of {which} IPv6"
        if ips and all(ip.is_loopback for ip in ips):
            return f"it is for Ethernet, and all of {which} loopback"
    return None
