"""What becomes of clients that neither `allow` nor `deny` of a listener has. Used by it. Pure.

Only prefixes that are written in the configuration count here: what a file has may be another
tomorrow, and the door to the world mustn't open or shut by that.
"""

from collections.abc import Iterator
from ipaddress import ip_network

from mailweir.config.prefixes import Prefixes
from mailweir.config.words import Others

# IP version, length, leading bits.
_Prefix = tuple[int, int, int]


def others_by_lists(allow: Prefixes, deny: Prefixes) -> Others | None:
    """Whether they are let in; None where the lists don't tell."""
    if not allow.entries:
        return Others.ADMIT
    if not deny.entries:
        return Others.REFUSE
    if _all_within(allow, deny):
        # Exceptions of `deny`.
        return Others.ADMIT
    # Holes in `allow`.
    return Others.REFUSE if _all_within(deny, allow) else None


def _all_within(inner: Prefixes, outer: Prefixes) -> bool:
    """Whether a list has no files, and each of its entries lies in a prefix that the other has."""
    if any(entry.is_file for entry in inner.entries):
        return False
    around = frozenset(_written(outer))
    lengths = sorted({(version, length) for version, length, _ in around})
    return all(
        any(
            (version, shorter, bits >> (length - shorter)) in around
            for of, shorter in lengths
            if of == version and shorter <= length
        )
        for version, length, bits in _written(inner)
    )


def _written(prefixes: Prefixes) -> Iterator[_Prefix]:
    for entry in prefixes.entries:
        for prefix in () if entry.is_file else entry.prefixes:
            network = ip_network(prefix)
            size, length = network.max_prefixlen, network.prefixlen
            yield network.version, length, int(network.network_address) >> (size - length)
