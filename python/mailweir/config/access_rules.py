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
    yield from _nobody(path, listener)
    yield from _other_family(path, listener)


def _both(path: Path, listener: Listener) -> Iterator[Finding]:
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


def _nobody(path: Path, listener: Listener) -> Iterator[Finding]:
    """Listeners that let nobody in, or nobody of an IP version."""
    if listener.limits.tries(DryRun.ACCESS) or listener.others_in_effect is None:
        return
    bound = sorted({bind.ip.version for bind in listener.bind})
    shut = [version for version in bound if _lets_none_in(listener, version)]
    at = (*path, "deny" if listener.deny.entries else "others" if listener.others else "allow")
    if shut == bound:
        yield Finding(at, f"nobody is let in, every client is denied; {_PAUSE}")
    elif shut:
        yield Finding(at, f"no client of IPv{shut[0]} is let in", warning=True)


def _lets_none_in(listener: Listener, version: int) -> bool:
    if any(_version(prefix) == version for prefix in listener.allow.every):
        return False
    denied = frozenset(listener.deny.every)
    whole, halves = _ALL[version]
    is_denied = whole in denied or denied.issuperset(halves)
    return is_denied or listener.others_in_effect is Others.REFUSE


def _other_family(path: Path, listener: Listener) -> Iterator[Finding]:
    """Prefixes that no client can have. Files are of others' making, and have both."""
    bound = {bind.ip.version for bind in listener.bind}
    if len(bound) > 1:
        return
    (own,) = bound
    limits = listener.limits.per_source
    lists: tuple[tuple[Path, Prefixes], ...] = (
        (("allow",), listener.allow),
        (("deny",), listener.deny),
        (("limits", "per_source", "exempt"), limits.exempt),
    )
    for key, prefixes in lists:
        for index, entry in enumerate(prefixes.entries):
            if not entry.is_file and any(_version(one) != own for one in entry.prefixes):
                yield Finding(
                    (*path, *key, index),
                    f"no client has this address: the listener binds IPv{own} alone",
                    warning=True,
                )


def _version(prefix: str) -> int:
    return 6 if ":" in prefix else 4
