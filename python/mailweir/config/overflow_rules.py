"""What is wrong in `overflow`: pools that aren't there, or lead back. Called by `rules`. Pure."""

from collections.abc import Iterator, Mapping

from mailweir.config.finding import Finding, did_you_mean
from mailweir.config.pool import Pool


def overflow_findings(pools: Mapping[str, Pool], known: frozenset[str]) -> Iterator[Finding]:
    """Of all pools; `known` has the names of those that aren't valid in themselves as well."""
    for name, pool in pools.items():
        for index, other in enumerate(pool.overflow):
            at = ("pools", name, "overflow", index)
            if other not in known:
                there = did_you_mean(other, sorted(known))
                yield Finding(at, f"there is no pool `{other}`{there}")
            elif other in pool.overflow[:index]:
                yield Finding(at, f"`{other}` is there twice")
            elif way := _way(pools, other, name):
                yield Finding(
                    at,
                    f"sessions of `{name}` would come back to it: {' -> '.join((name, *way))};"
                    " leave one of these out",
                )


def _way(pools: Mapping[str, Pool], begin: str, to: str) -> tuple[str, ...]:
    """From one pool to another by `overflow`, both included; empty where there is none."""
    ways: list[tuple[str, ...]] = [(begin,)]
    seen = {begin}
    while ways:
        way = ways.pop(0)
        if way[-1] == to:
            return way
        further = pools[way[-1]].overflow if way[-1] in pools else []
        for other in further:
            if other not in seen:
                seen.add(other)
                ways.append((*way, other))
    return ()
