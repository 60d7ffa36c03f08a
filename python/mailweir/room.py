"""How many sessions the process has room for: what its descriptors and its memory are enough for.

Read by the daemon at its start and by `mailweir check`. What is kept back is for servers' checks,
operators and the pipes of the relay, whatever clients do.
"""

from typing import NamedTuple

from mailweir import descriptors, memory
from mailweir.spec import DesiredRoom

# Of one whose reader stalls, on the relay: 72 KiB were measured, a whole buffer of the relay among
# them, and 10 KiB in the kernel for two sockets. An idle one takes a quarter of it.
_PER_SESSION = 96 << 10
# For what doesn't depend on sessions, and an eighth of the rest for what grows with them elsewhere.
_RESERVED = 32 << 20
_FREE = 8
_LEAST = 16
# Beside so many sessions one connection more may linger, and one server more be waited for.
_SESSIONS_PER_SPARE = 8


class Bounded(NamedTuple):
    """So much room, and what it is bounded by: descriptors or memory."""

    room: DesiredRoom
    by: str


class Room(NamedTuple):
    """By descriptors alone, where an operator says how many sessions there may be, and by memory
    as well, where nobody does.
    """

    told: Bounded
    auto: Bounded

    def where(self, max_sessions: int | None) -> Bounded:
        """The one that counts under this setting."""
        return self.auto if max_sessions is None else self.told


def read() -> Room:
    """Raises the limit of descriptors first, as far as the system allows."""
    limit = descriptors.raise_limit()
    return divide(limit, memory.left())


def divide(limit: int, left: memory.Left) -> Room:
    """The room that so many descriptors and so much memory are. Pure."""
    spare = descriptors.spare(limit)
    most = DesiredRoom(descriptors.sessions(limit), spare)
    told = Bounded(most, f"{limit} descriptors")
    usable = max(left.size - _RESERVED, 0) * (_FREE - 1) // _FREE
    sessions = max(_LEAST, usable // _PER_SESSION)
    if sessions >= most.sessions:
        return Room(told, told)
    spare = min(spare, max(_LEAST, sessions // _SESSIONS_PER_SPARE))
    return Room(told, Bounded(DesiredRoom(sessions, spare), f"memory: {left.by}"))
