"""Names what differs between the configurations of two nodes. Pure.

Whether they differ, two digests say that stand in every datagram. What it is, each node says bit by
bit: the digest of one key with every datagram, in turn. Used by `known`.
"""

from collections.abc import Mapping
from hashlib import sha256

from mailweir.ha.machine.wire import Message

_BYTES = 3
# As many as a datagram can count.
_MOST = 255


class Parts:
    """What is said to the peer, and what was heard of it."""

    def __init__(self) -> None:
        self._turn = 0
        self._of = (bytes(8), bytes(8))  # the peer's digests that `_heard` belongs to
        self._count = 0
        self._heard: dict[bytes, bytes] = {}

    def next(self, *own: Mapping[str, bytes]) -> tuple[int, bytes, bytes]:
        """How many there are, and of the next one: a digest of its name, and one of its value."""
        every = [one for parts in own for one in parts.items() if one[1]]
        if not every or len(every) > _MOST:
            return 0, bytes(_BYTES), bytes(_BYTES)
        self._turn += 1
        name, digest = every[self._turn % len(every)]
        return len(every), short(name.encode()), digest

    def hear(self, told: Message) -> None:
        """The peer says one of its own."""
        of = (told.pair_digest, told.config_digest)
        if of != self._of or told.parts != self._count:
            self._of, self._count = of, told.parts
            self._heard.clear()
        if told.parts:
            self._heard[told.part] = told.part_digest

    def differing(self, own: Mapping[str, bytes]) -> list[str]:
        """Names of keys that the peer has otherwise, or not at all, as far as was heard."""
        whole = 0 < self._count == len(self._heard)
        found = []
        for name, digest in own.items():
            theirs = self._heard.get(short(name.encode()))
            # What isn't written here, nor there, isn't said by anybody.
            if theirs != digest if theirs is not None else digest and whole:
                found.append(name)
        return found

    def has_more(self, *own: Mapping[str, bytes]) -> bool:
        """Whether the peer has a key that isn't here."""
        names = {short(name.encode()) for parts in own for name in parts}
        return any(name not in names for name in self._heard)


def short(told: bytes) -> bytes:
    """What stands for it in a datagram."""
    return sha256(told).digest()[:_BYTES]
