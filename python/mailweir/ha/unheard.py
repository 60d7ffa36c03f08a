"""Datagrams that aren't listened to: counted by reason, and said once a minute, however many come.

Used by `links` and `witness`.
"""

from collections import Counter

import structlog

from mailweir.ha.clock import now
from mailweir.ha.machine.wire import Refusal

_SAID_EVERY = 60.0  # seconds
# A copy over another link and the first words of a node that has just begun are as they should be.
_ORDINARY = frozenset({Refusal.COPY, Refusal.UNPROVEN})

_log = structlog.get_logger("mailweir")


class Unheard:
    """The counts of one process."""

    def __init__(self) -> None:
        self.counts: Counter[Refusal] = Counter()
        self._said_at = float("-inf")

    def note(self, why: Refusal) -> None:
        """Another one."""
        self.counts[why] += 1
        if why not in _ORDINARY and now() - self._said_at >= _SAID_EVERY:
            self._said_at = now()
            counts = {one.value: self.counts[one] for one in self.counts if one not in _ORDINARY}
            _log.warning("datagrams that aren't listened to", **counts)

    def total(self) -> int:
        """All but copies."""
        return self.counts.total() - self.counts[Refusal.COPY]
