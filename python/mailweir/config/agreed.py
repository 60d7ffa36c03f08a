"""What two nodes of a pair have to agree on: a digest that tells whether they do, and digests of
single keys that tell where they don't. Pure.

What is written counts, and not what it is by default: a later version with one more key is of the
same mind as this one. Nor does it count in which order a list has its items, nor what is one
machine's alone. Called by `mailweir run` for the balancer and by `mailweir ha` for the pair.
"""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from itertools import islice
from typing import NamedTuple, cast

from mailweir.config.ha import Ha
from mailweir.config.kinds import Part
from mailweir.config.model import Config
from mailweir.config.written import given, names

Tree = dict[str, object]

# What two machines of a pair may differ in: where they keep things, how large they are.
_MACHINES_OWN = frozenset(
    {"ha", "admin", "log", "state_dir", "workers", "max_sessions", "max_flows", "include"}
)
_NODES_OWN = frozenset({"node", "keys", "fence", "socket", "http"})
_DIGEST_BYTES, _PART_BYTES = 8, 3
# Keys that are told apart by name; where there are more, what is around them is.
_MOST_PARTS, _DEEPEST = 200, 4
# A large farm's keys that aren't written needn't all be known by name.
_MOST_UNWRITTEN = 1000


class Agreement(NamedTuple):
    """A configuration, as far as two balancers have to be of one mind, in few bytes."""

    digest: bytes
    parts: dict[str, bytes]  # names of keys, with digests of their values


def agreement(config: Config) -> Agreement:
    """Two balancers for which the digest is the same do the same with the same client. With 10 000
    servers it takes some tenths of a second.
    """
    tree = agreed_config(config)
    return Agreement(digest(tree), parts(tree, config))


def digest(tree: Tree) -> bytes:
    """In a few bytes. With 10 000 servers it takes some tenths of a second to come by."""
    return _hashed(tree)[:_DIGEST_BYTES]


def parts(tree: Tree, whole: Part, under: str = "") -> dict[str, bytes]:
    """Names of keys, as `pools.farm.balance`, with digests of their values; no digest where a key
    isn't written. `tree` is what is written of `whole`.
    """
    for depth in range(_DEEPEST, 0, -1):
        found = dict(_flat(tree, depth, under))
        if len(found) <= _MOST_PARTS:
            break
    own = _NODES_OWN if under else _MACHINES_OWN
    every = (name for name in names(whole, depth) if name.partition(".")[0] not in own)
    unwritten = (name for one in every if (name := f"{under}{one}") not in found)
    named = dict.fromkeys(islice(unwritten, _MOST_UNWRITTEN), b"")
    return named | {name: _hashed(value)[:_PART_BYTES] for name, value in found.items()}


def agreed_config(config: Config) -> Tree:
    """Two balancers for which it is the same do the same with the same client."""
    tree = {key: found for key, found in given(config).items() if key not in _MACHINES_OWN}
    floating = {str(one.address.ip) for one in (config.ha.source if config.ha else ())}
    for name, pool in config.pools.items():
        servers = _under(tree, "pools", name, "servers")
        for server_name, server in pool.servers.items():
            # An address of its own is each machine's.
            shared = [str(ip) for ip in server.source if str(ip) in floating]
            written = _under(servers, server_name)
            written.pop("source", None)
            if shared:
                written["source"] = shared
        in_pool = _under(tree, "pools", name)
        further = cast(Tree, in_pool.get("more_checks", {}))
        for check in (in_pool.get("check", {}), *further.values()):
            # Checks come from an address of the node's own.
            cast(Tree, check).pop("source", None)
    for name, listener in config.listeners.items():
        written = _under(tree, "listeners", name)
        for key, prefixes in (("allow", listener.allow), ("deny", listener.deny)):
            if key in written:
                # What is in files shows nowhere else.
                written[key] = list(prefixes.every)
        exempt = listener.limits.per_source.exempt
        if exempt.entries:
            _under(written, "limits", "per_source")["exempt"] = list(exempt.every)
    return cast(Tree, _sorted(tree))


def agreed_pair(ha: Ha) -> Tree:
    """Two nodes for which it is the same mean the same pair. Numbers and files of keys may differ:
    while they are replaced they do. Devices have each machine's own names.
    """
    tree = {key: found for key, found in given(ha).items() if key not in _NODES_OWN}
    for key, floating in (("virtual", ha.virtual), ("source", ha.source)):
        if floating:
            tree[key] = [str(one.address) for one in floating]
    return cast(Tree, _sorted(tree))


def _under(tree: Tree, *keys: str) -> Tree:
    for key in keys:
        tree = cast(Tree, tree[key])
    return tree


def _sorted(value: object) -> object:
    if isinstance(value, dict):
        return {key: _sorted(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted((_sorted(item) for item in value), key=lambda item: json.dumps(item))
    return value


def _flat(tree: Mapping[str, object], depth: int, under: str) -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        name = f"{under}{key}"
        if isinstance(value, dict) and value and depth > 1:
            yield from _flat(value, depth - 1, f"{name}.")
        else:
            yield name, value


def _hashed(value: object) -> bytes:
    return sha256(json.dumps(value, sort_keys=True).encode()).digest()
