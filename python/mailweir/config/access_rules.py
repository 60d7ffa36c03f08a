"""Who is let in by a listener's lists: whether they say it, and whether anybody is.

Called by `rules`. Pure.
"""

from collections.abc import Iterator

from mailweir.config.finding import Finding, Path, listed
from mailweir.config.listener import Listener
from mailweir.config.prefixes import Prefixes
from mailweir.config.words import DryRun, Others

# All of an IP version, whole and in halves.
_ALL = {4: ("0.0.0.0/0", ("0.0.0.0/1", "128.0.0.0/1")), 6: ("::/0", ("::/1", "8000::/1"))}
_PAUSE = "to take no sessions for a while say `mailweir pause`, after which mail comes again"


def access_findings(path: Path, listener: Listener) -> Iterator[Finding]:
    """What is wrong or odd in the lists of one listener."""
    yield from _both(path, listener)
    yield from _empty(path, listener)
    yield from _nobody(path, listener)
    yield from _other_family(path, listener)


def _both(path: Path, listener: Listener) -> Iterator[Finding]:
    """The longest prefix decides: it can count in one of the lists alone."""
    allow, deny = listener.lists_in_effect
    is_twice = (allow, deny) != (listener.allow.every, listener.deny.every)
    if not is_twice and listener.others_in_effect is None:
        yield Finding(
            (*path, "allow"),
            "together with `deny` this doesn't tell what becomes of clients in neither list: write"
            " `others: admit`, or `others: refuse` where only those in `allow` may come",
        )
    lists = (("deny", listener.deny, deny, "allow"), ("allow", listener.allow, allow, "deny"))
    for key, prefixes, in_effect, other in lists if is_twice else ():
        counted = frozenset(in_effect)
        for index, entry in enumerate(prefixes.entries):
            if lost := [one for one in entry.prefixes if one not in counted]:
                said = f"{listed(lost)} {'is' if len(lost) == 1 else 'are'} in `{other}` as well"
                at, is_file = (*path, key, index), entry.is_file
                if is_file or lost[0] not in listener.allow.written:
                    yield Finding(at, f"{said}, and that counts", warning=True)
                else:
                    yield Finding(at, said)


def _empty(path: Path, listener: Listener) -> Iterator[Finding]:
    """Lists that have nothing in them: of a file it may be that it couldn't be fetched."""
    for key, prefixes in _lists(listener):
        for index, entry in enumerate(prefixes.entries):
            if not entry.prefixes and entry.is_sound:
                at = (*path, *key, index)
                yield Finding(at, f"{entry} is empty: nobody is in it", warning=True)


def _nobody(path: Path, listener: Listener) -> Iterator[Finding]:
    """Listeners that let nobody in, or nobody of an IP version."""
    if listener.limits.tries(DryRun.ACCESS) or listener.others_in_effect is None:
        return
    bound = sorted({bind.ip.version for bind in listener.bind})
    shut = [version for version in bound if _lets_none_in(listener, version)]
    by_deny = any(_denies_all(listener, version) for version in shut)
    at = (*path, "deny" if by_deny else "others" if listener.others else "allow")
    if shut == bound:
        yield Finding(at, f"nobody is let in, every client is denied; {_PAUSE}")
    elif shut:
        yield Finding(at, f"no client of IPv{shut[0]} is let in", warning=True)


def _lets_none_in(listener: Listener, version: int) -> bool:
    allow, _ = listener.lists_in_effect
    if any(_version(prefix) == version for prefix in allow):
        return False
    return _denies_all(listener, version) or listener.others_in_effect is Others.REFUSE


def _denies_all(listener: Listener, version: int) -> bool:
    denied = frozenset(listener.lists_in_effect[1])
    whole, halves = _ALL[version]
    return whole in denied or denied.issuperset(halves)


def _other_family(path: Path, listener: Listener) -> Iterator[Finding]:
    """Prefixes that no client can have. Files are of others' making, and have both."""
    bound = {bind.ip.version for bind in listener.bind}
    if len(bound) > 1:
        return
    (own,) = bound
    for key, prefixes in _lists(listener):
        for index, entry in enumerate(prefixes.entries):
            if not entry.is_file and any(_version(one) != own for one in entry.prefixes):
                yield Finding(
                    (*path, *key, index),
                    f"no client has this address: the listener binds IPv{own} alone",
                    warning=True,
                )


def _lists(listener: Listener) -> Iterator[tuple[Path, Prefixes]]:
    """All of them, each with its key."""
    yield ("allow",), listener.allow
    yield ("deny",), listener.deny
    yield ("limits", "per_source", "exempt"), listener.limits.per_source.exempt


def _version(prefix: str) -> int:
    return 6 if ":" in prefix else 4
