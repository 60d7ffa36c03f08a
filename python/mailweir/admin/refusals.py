"""What was refused at the admin addresses: counted, and said in the log once for each user.

Owned by `server`, told by `guard` and `door`. Whoever asks again and again fills neither the
log nor memory.
"""

from enum import StrEnum

import structlog
from prometheus_client import CollectorRegistry

from mailweir.admin.exposition import CounterBy, Group, Table

# Users and reasons that are remembered as said; those beyond are counted alone.
_MOST_SAID = 256

_log = structlog.get_logger("mailweir")


class Why(StrEnum):
    """The reasons there are."""

    NO_ROLE = "no_role"
    READER = "reader"
    METHOD = "method"
    HOST = "host"
    ORIGIN = "origin"
    BODY = "body"
    CONNECTIONS = "connections"


class Refusals:
    """The count, and what was said already."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.counts = dict.fromkeys(Why, 0)
        registry.register(Table([REFUSED], lambda: self))
        self._said: set[tuple[str, Why]] = set()

    def note(self, why: Why, who: str) -> None:
        """`who` was refused something."""
        self.counts[why] += 1
        if (who, why) not in self._said and len(self._said) < _MOST_SAID:
            self._said.add((who, why))
            _log.warning("refused at the admin addresses", who=who, reason=why)

    def forget(self) -> None:
        """Say each anew from here on: the roles are others."""
        self._said.clear()


REFUSED = Group[Refusals, Refusals](
    (),
    lambda refusals: [((), refusals)],
    CounterBy(
        "mailweir_admin_refusals",
        "What was refused at the admin addresses, by reason.",
        "reason",
        lambda refusals: {why.value: count for why, count in refusals.counts.items()},
    ),
)
