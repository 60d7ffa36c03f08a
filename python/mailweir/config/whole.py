"""The configuration as a whole: as one file, and in a few bytes. Pure.

Called by the admin routes (`config show`) and by the daemon.
"""

import json
from collections.abc import Iterator
from hashlib import sha256

from mailweir.config.model import Config
from mailweir.config.written import plain

# What two machines of a pair may differ in: where they keep things, how large they are.
_OWN = frozenset(
    {"ha", "admin", "log", "state_dir", "workers", "max_sessions", "max_flows", "include"}
)
_DIGEST_BYTES = 8


def whole(config: Config) -> dict[str, object]:
    """As one file: what it includes stands in it already."""
    return {key: found for key, found in plain(config).items() if key != "include"}


def config_digest(config: Config) -> bytes:
    """Two processes for which it is the same do the same with the same client.

    Takes as long as a load: with 10 000 servers, some tenths of a second.
    """
    shared = {key: found for key, found in plain(config).items() if key not in _OWN}
    digest = sha256(json.dumps(shared, sort_keys=True).encode())
    for line in _prefixes(config):
        digest.update(line.encode())
    return digest.digest()[:_DIGEST_BYTES]


def _prefixes(config: Config) -> Iterator[str]:
    """All there are. What is in files shows nowhere else."""
    for name, listener in sorted(config.listeners.items()):
        for prefixes in (listener.allow, listener.deny, listener.limits.per_source.exempt):
            yield f"{name}: {','.join(prefixes.every)}\n"
