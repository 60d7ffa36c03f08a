"""What concerns more than one part: references, and all other rules, part by part.

Called by `load` with the listeners and pools that are valid in themselves, so that a
mistake in one place doesn't hide one in another. What concerns one listener or one pool alone is
in `listener_rules` and `pool_rules`, what concerns addresses in `address_rules`, the process in
`process_rules`, a pair in `ha_rules`. Pure.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mailweir.config.access_rules import access_findings
from mailweir.config.address_rules import Everywhere, address_findings
from mailweir.config.finding import Finding, Path, did_you_mean
from mailweir.config.ha import Ha
from mailweir.config.ha_rules import Around, ha_findings
from mailweir.config.listener import Listener
from mailweir.config.listener_rules import listener_findings, path_findings
from mailweir.config.machine import ThisMachine
from mailweir.config.model import Admin, Config
from mailweir.config.overflow_rules import overflow_findings
from mailweir.config.pool import Pool
from mailweir.config.pool_rules import pool_findings
from mailweir.config.process_rules import process_findings


@dataclass(frozen=True, slots=True)
class ConfigParts:
    """What is valid in itself; `pool_names` has the others' names as well."""

    admin: Admin | None
    listeners: Mapping[str, Listener]
    pools: Mapping[str, Pool]
    pool_names: frozenset[str]
    # The pool that each listener names, of those that aren't valid as well.
    uses: Mapping[str, str]
    ha: Ha | None
    # The file as a whole, where all of it is valid in itself.
    whole: Config | None = None


def findings(parts: ConfigParts, machine: ThisMachine | None = None) -> Iterator[Finding]:
    """Everything that is wrong or odd between the parts; without a machine, of what the file alone
    can tell.
    """
    used = frozenset(of for one in parts.uses.values() for of in _reached(one, parts.pools))
    users: dict[str, dict[str, Listener]] = {}
    for name, listener in parts.listeners.items():
        for of in _reached(listener.pool, parts.pools):
            users.setdefault(of, {})[name] = listener
    bound = {bind.ip: n for n, li in parts.listeners.items() for bind in li.bind}
    for name, pool_name in parts.uses.items():
        yield from _unknown_pool(("listeners", name, "pool"), pool_name, parts.pool_names)
    for name, listener in parts.listeners.items():
        yield from listener_findings(("listeners", name), listener)
        yield from access_findings(("listeners", name), listener)
        yield from path_findings(("listeners", name), listener, parts.pools.get(listener.pool))
    everywhere = Everywhere(parts.admin, parts.listeners, parts.pools, parts.ha, machine)
    yield from address_findings(everywhere)
    yield from overflow_findings(parts.pools, parts.pool_names)
    for name, pool in parts.pools.items():
        yield from pool_findings(("pools", name), pool, users.get(name, {}), bound)
        if name not in used:
            yield Finding(("pools", name), "no listener uses this pool", warning=True)
    if parts.whole:
        yield from process_findings(parts.whole, machine)
    if parts.ha:
        complete = (
            parts.pools.keys() == parts.pool_names and parts.listeners.keys() == parts.uses.keys()
        )
        around = Around(parts.admin, parts.listeners, parts.pools, complete)
        yield from ha_findings(parts.ha, around)


def _reached(pool: str, pools: Mapping[str, Pool]) -> Iterator[str]:
    """A pool, and those that it overflows into."""
    yield pool
    if pool in pools:
        yield from pools[pool].overflow


def _unknown_pool(path: Path, pool: str, known: frozenset[str]) -> Iterator[Finding]:
    # Without any pools there is one problem, not one per listener.
    if known and pool not in known:
        yield Finding(path, f"there is no pool `{pool}`{did_you_mean(pool, sorted(known))}")
