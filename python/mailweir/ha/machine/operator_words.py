"""What operators have said at both nodes, and what of it only one of them has. Pure.

Each node keeps its operators' words for itself: a word is a decision about one machine as often as
about both. So that nobody is surprised by a takeover, the nodes tell each other their words, page
by page, beside the heartbeats. Used by `known`; `wire` has the datagrams that the pages go in.

Times are seconds of a node's own clock; on the wire stands how much longer a word counts.
"""

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import ceil

from mailweir.config.units import format_duration
from mailweir.ha.machine.wire import MOST_WORDS

# Pages of one list: some hundred words. Of more it is told how many there are.
_MOST_PAGES = 8
# A page goes out so often, all of them where the words are other ones; in seconds.
_EVERY = 1.0
# Words of a peer that is heard, but hasn't told its words for so long, aren't known any more.
_FRESH = 30.0
# Who says the same on both nodes needs a moment for that.
_PATIENCE = 10.0
# In one message; `mailweir ha status` shows more.
_MOST_NAMED, _MOST_COMMANDS = 3, 10
# Which list it is of, how many pages that has, which one this is; how many words there are in all.
_HEAD = struct.Struct("!8sBBI")
_DIGEST = 8  # bytes
# As `state.overrides` writes them: names, prefixes and weights have no other characters.
_WHAT = re.compile(r"(drain|maint|weight|pause|deny)( [A-Za-z0-9._/:%-]{1,140}){0,2}", re.ASCII)
# Every line has the same length whenever it is told: pages of one list fit together.
_LEFT = 10  # digits, or as many dashes
_MOST_LEFT = 10**_LEFT - 1


@dataclass(frozen=True, slots=True)
class Said:
    """A word that counts: what it is about, as `drain farm/x`, and until when it does."""

    what: str
    until: float | None = None

    def __post_init__(self) -> None:
        """Raises ValueError where no operator can have said that."""
        if _WHAT.fullmatch(self.what) is None:
            raise ValueError(f"{self.what!r} is no operator's word")

    def command(self, now: float) -> str:
        """What repeats it."""
        if self.until is None:
            return f"mailweir {self.what}"
        left = max(1, ceil(self.until - now))
        # In minutes where it is some: who reads it takes longer to type it.
        left = 60 * ceil(left / 60) if left > 120 else left
        return f"mailweir {self.what} --for {format_duration(left)}"


class Words:
    """Of both nodes, as far as this one knows them."""

    def __init__(self) -> None:
        self._own: Sequence[Said] | None = None  # its balancer has never answered
        self._own_digest = b""
        self._told: Sequence[Said] | None = None  # the peer hasn't told them
        self._untold = 0  # words that it has beside these
        self._told_at = float("-inf")
        self._coming: dict[int, list[Said]] = {}  # pages of the list that is being told
        self._of = (b"", 0)
        self._missing: list[Said] = []
        self._unshared: list[Said] = []
        self._turn = 0
        self._next_at = float("-inf")
        self._differ_since: float | None = None

    def learn(self, own: Sequence[Said] | None) -> None:
        """What counts at this node; None where that isn't known for the moment."""
        if own is None or own == self._own:
            return
        self._own = own
        self._own_digest = sha256("\n".join(one.what for one in own).encode()).digest()[:_DIGEST]
        self._next_at = float("-inf")
        self._turn = 0
        self._compare()

    def due(self, now: float) -> list[bytes]:
        """The pages to be told now: all where something is new, else one in its turn."""
        if self._own is None or now < self._next_at:
            return []
        every = _pages(self._own, self._own_digest, now)
        is_new = self._next_at == float("-inf")
        self._next_at = now + _EVERY
        if is_new:
            return every
        self._turn += 1
        return [every[self._turn % len(every)]]

    def hear(self, page: bytes, now: float) -> None:
        """The peer tells some of its own. A page that isn't understood is a later version's."""
        try:
            of, number, untold, said = _read(page, now)
        except ValueError:
            return
        if of != self._of:
            self._of = of
            self._coming.clear()
        self._coming[number] = said
        if len(self._coming) == of[1]:
            self._told = [one for n in sorted(self._coming) for one in self._coming[n]]
            self._untold = max(0, untold - len(self._told))
            self._told_at = now
            self._coming = {}
            self._compare()

    def watch(self, heard_at: float, now: float) -> None:
        """Time has passed; the peer was heard last at `heard_at`."""
        if heard_at - self._told_at > _FRESH and self._told is not None:
            self._told = None
            self._compare()
        differ = bool(self.missing(now) or self.unshared(now))
        if not differ:
            self._differ_since = None
        elif self._differ_since is None:
            self._differ_since = now

    def missing(self, now: float) -> list[Said]:
        """What counts at the peer, or did when it was heard last, and doesn't here."""
        return _current(self._missing, now)

    def unshared(self, now: float) -> list[Said]:
        """What counts here and not at the peer."""
        return _current(self._unshared, now)

    def difference(self, node: str, peer: str, now: float) -> str:
        """For an alarm; empty where they have been the same a moment ago."""
        if self._differ_since is None or now - self._differ_since < _PATIENCE:
            return ""
        sides = ((peer, self.missing(now)), (node, self.unshared(now)))
        told = [f"only {name} has {_named(said)}" for name, said in sides if said]
        return f"operators' words differ: {'; '.join(told)}"

    def lost(self, node: str, peer: str, now: float) -> str:
        """What a takeover by this node costs, with the commands that repeat it; or nothing."""
        missing = self.missing(now)
        if not missing:
            return ""
        commands = [one.command(now) for one in missing[:_MOST_COMMANDS]]
        more = len(missing) - len(commands) + self._untold
        rest = f"; and {more} more, see `mailweir ha status` and {peer}" if more else ""
        return (
            f"they were said on {peer} and not on {node}; to repeat them here:"
            f" {'; '.join(commands)}{rest}"
        )

    def _compare(self) -> None:
        own, told = self._own, self._told
        if own is None or told is None:
            self._missing, self._unshared = [], []
            return
        mine, theirs = {one.what for one in own}, {one.what for one in told}
        self._missing = [one for one in told if one.what not in mine]
        # Of what it hasn't told it may have any.
        self._unshared = [] if self._untold else [one for one in own if one.what not in theirs]


def _pages(own: Sequence[Said], of: bytes, now: float) -> list[bytes]:
    bodies: list[bytes] = [b""]
    for line in (_line(one, now) for one in own):
        if _HEAD.size + len(bodies[-1]) + len(line) > MOST_WORDS:
            if len(bodies) == _MOST_PAGES:
                break
            bodies.append(b"")
        bodies[-1] += line
    count = len(bodies)
    return [_HEAD.pack(of, count, n, len(own)) + body for n, body in enumerate(bodies)]


def _line(said: Said, now: float) -> bytes:
    if said.until is None:
        return f"{'-' * _LEFT} {said.what}\n".encode()
    left = min(_MOST_LEFT, max(1, ceil(said.until - now)))
    return f"{left:0{_LEFT}} {said.what}\n".encode()


def _read(page: bytes, now: float) -> tuple[tuple[bytes, int], int, int, list[Said]]:
    """Which list it is of and how many pages that has, which one this is, how many words there are.

    Raises ValueError.
    """
    if len(page) < _HEAD.size:
        raise ValueError("no page")
    of, count, number, total = _HEAD.unpack_from(page)
    if not number < count <= _MOST_PAGES:
        raise ValueError("no such page")
    lines = page[_HEAD.size :].decode("ascii").splitlines()
    told = (_said(line, now) for line in lines)
    return (of, count), number, total, [one for one in told if one is not None]


def _said(line: str, now: float) -> Said | None:
    """None is what a later version says."""
    left, _, what = line.partition(" ")
    if len(left) != _LEFT or _WHAT.fullmatch(what) is None:
        return None
    if left == "-" * _LEFT:
        return Said(what)
    return Said(what, now + int(left)) if left.isdigit() else None


def _current(words: Sequence[Said], now: float) -> list[Said]:
    return [one for one in words if one.until is None or one.until > now]


def _named(words: Sequence[Said]) -> str:
    names = [f"`{one.what}`" for one in words[:_MOST_NAMED]]
    if len(words) > _MOST_NAMED:
        names.append(f"{len(words) - _MOST_NAMED} more")
    return " and ".join(names)
