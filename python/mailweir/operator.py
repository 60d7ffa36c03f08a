"""What operators said of servers, kept in memory. Owned by the daemon. Pure."""

from collections.abc import Set

from mailweir.config.model import Config
from mailweir.errors import UnknownError
from mailweir.spec import ServerKey


class Overrides:
    """The servers that an operator drained."""

    def __init__(self) -> None:
        self._drained: frozenset[ServerKey] = frozenset()

    @property
    def drained(self) -> Set[ServerKey]:
        """As it is now; what is returned doesn't change."""
        return self._drained

    def drain(self, key: ServerKey, config: Config) -> None:
        """Take a server out. Raises UnknownError where `config` has none of that name."""
        self._drained |= {_known(key, config)}

    def ready(self, key: ServerKey, config: Config) -> None:
        """Take that back. Raises UnknownError where `config` has none of that name."""
        self._drained -= {_known(key, config)}

    def forget_absent(self, config: Config) -> Set[ServerKey]:
        """Drop what was said of servers that `config` hasn't; which those are."""
        absent = frozenset(
            key
            for key in self._drained
            if key.pool not in config.pools or key.server not in config.pools[key.pool].servers
        )
        self._drained -= absent
        return absent


def _known(key: ServerKey, config: Config) -> ServerKey:
    pool = config.pools.get(key.pool)
    if pool is None:
        raise UnknownError(f"there is no pool {key.pool}; there are {', '.join(config.pools)}")
    if key.server not in pool.servers:
        raise UnknownError(
            f"pool {key.pool} has no server {key.server}; it has {', '.join(pool.servers)}"
        )
    return key
