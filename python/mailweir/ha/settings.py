"""The configuration of a pair: how it is read, as the state machine wants it, and what of it can't
change. Used by `agent`; the witness reads it in the same way.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from mailweir.config.agreed import agreed_pair, digest, parts
from mailweir.config.ha import Ha
from mailweir.config.model import Config
from mailweir.config.reading import Reading
from mailweir.errors import StartError
from mailweir.ha.machine.facts import Settings
from mailweir.ha.machine.wire import cluster_number
from mailweir.lanes import Lane

# Seconds without a sign that the file, or what it names, is read or gone through.
_LOAD_LIMIT = 10.0

# A process has these from its start to its end.
_FIXED = ("cluster", "nodes", "virtual", "source", "witness", "socket", "http")

_T = TypeVar("_T")


async def loaded(lane: Lane, file: Path, read: Callable[[Path, Reading], _T]) -> _T:
    """What `read` makes of the file and its keys, in a lane. Raises what it raises.

    Raises StalledError where a disk doesn't answer.
    """
    reading = Reading()
    return await lane.call(
        partial(read, file, reading),
        limit=_LOAD_LIMIT,
        what=f"reading {file} and its keys",
        moved=lambda: reading.moved,
    )


def node_of(ha: Ha, hostname: str) -> str:
    """Which node this machine is. Raises StartError with what to do."""
    name = ha.own_name(hostname)
    if name is None:
        names = " and ".join(ha.nodes)
        raise StartError(
            f"`ha.nodes` has {names}, and this machine is called {hostname}: say with `ha.node`"
            " which one it is"
        )
    return name


def settings_of(ha: Ha, node: str) -> Settings:
    """What counts for `node`."""
    names = sorted(ha.nodes)
    peer = next(name for name in names if name != node)
    timers, agreed = ha.timers, agreed_pair(ha)
    return Settings(
        node=node,
        peer=peer,
        number=1 + names.index(node),
        cluster=cluster_number(ha.cluster),
        priority=ha.nodes[node].priority,
        newest_key=max(ha.keys),
        interval=timers.interval,
        dead=timers.dead,
        lease=timers.lease,
        preempt=ha.preempt,
        preempt_delay=ha.preempt_delay,
        fault_hold=ha.fault_hold,
        gateways=bool(ha.gateway),
        witness=ha.witness is not None,
        strict=ha.witness is not None and ha.witness.strict,
        fence=bool(ha.fence),
        links=tuple(sorted(ha.nodes[node].links)),
        pair_digest=digest(agreed),
        parts=parts(agreed, ha, "ha."),
    )


def ports_of(config: Config) -> list[int]:
    """Where clients connect at the virtual addresses."""
    virtual = {one.address.ip for one in (config.ha.virtual if config.ha else ())}
    bound = [address for one in config.listeners.values() for address in one.bind]
    return sorted({one.port for one in bound if one.ip in virtual or one.ip.is_unspecified})


def places_that_differ(old: Config, new: Config) -> list[str]:
    """Where it asks `mailweir run`, and where it keeps things: what differs of that, in words. A
    reload that is taken would go on asking at the old place, and find nobody.
    """
    pairs = {"admin.socket": (old.admin.socket, new.admin.socket)}
    pairs["state_dir"] = (old.state_dir, new.state_dir)
    return [
        f"`{key}` can't change while it runs: restart `mailweir ha`, the standby node's first"
        for key, (before, after) in pairs.items()
        if before != after
    ]


def fixed_differences(old: Ha, new: Ha) -> list[str]:
    """What differs that a running process can't change, in words."""
    found = [
        f"`ha.{key}` can't change while it runs: restart `mailweir ha`, the standby node's first"
        for key in _FIXED
        if key != "nodes" and getattr(old, key) != getattr(new, key)
    ]
    links = [{name: node.links for name, node in ha.nodes.items()} for ha in (old, new)]
    if links[0] != links[1]:
        found.append("`ha.nodes` can't change while it runs but for `priority`")
    if old.timers.lease != new.timers.lease:
        found.append("`ha.timers.lease` can't change while it runs")
    return found
