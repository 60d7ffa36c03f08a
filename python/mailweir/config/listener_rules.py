"""What concerns more than one key of a listener: idle limits, access, limits by source.

Called by `rules`. Pure.
"""

from collections.abc import Iterator

from mailweir.config.finding import Finding, Path, listed, one_source
from mailweir.config.listener import Listener, PerSource, Timeouts
from mailweir.config.units import format_duration

# RFC 5321, 4.5.3.2.6: the sender waits 10 min for the answer to the final dot.
_LEAST_IDLE_SERVER = 600.0
# Postfix's smtpd_timeout: its own 421 has to come first.
_LEAST_IDLE_CLIENT = 300.0


def listener_findings(path: Path, listener: Listener) -> Iterator[Finding]:
    """What is wrong or odd in one listener."""
    yield from _timeouts((*path, "timeouts"), listener.timeouts)
    yield from _access(path, listener)
    yield from _per_source((*path, "limits", "per_source"), listener.limits.per_source)


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


def _access(path: Path, listener: Listener) -> Iterator[Finding]:
    """The longest prefix decides: it must be in one of the lists alone."""
    both = frozenset(listener.allow.every).intersection(listener.deny.every)
    if not both and listener.others_in_effect is None:
        yield Finding(
            (*path, "allow"),
            "together with `deny` this doesn't tell what becomes of clients in neither list: write"
            " `others: admit`, or `others: refuse` where only those in `allow` may come",
        )
    for index, entry in enumerate(listener.deny.entries if both else ()):
        if common := [prefix for prefix in entry.prefixes if prefix in both]:
            yield Finding(
                (*path, "deny", index),
                f"{listed(common)} {'is' if len(common) == 1 else 'are'} in `allow` as well",
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
