"""The rise and fall of one server. Pure; the monitor owns one Track per server.

The first result decides at once: a server that was never seen has nothing to lose,
and waiting for `rise` would keep a farm closed after every start. From then on a
change needs `rise` successes or `fall` failures in a row.
"""

from dataclasses import dataclass, replace

from mailweir.config.pool import Check
from mailweir.state.desired import Health


@dataclass(frozen=True, slots=True)
class Track:
    """What is known of a server.

    `streak` counts results in a row that contradict `health`. `fresh` means that the
    next result decides at once, whatever `health` says: nothing is known yet, or the
    server's address changed and what is known is about the old one.
    """

    health: Health = Health.UNKNOWN
    streak: int = 0
    fresh: bool = True

    @property
    def pending(self) -> bool:
        """Whether a change has begun and isn't confirmed yet."""
        return self.streak > 0


def step(track: Track, ok: bool, check: Check) -> Track:
    """The track after one more result."""
    result = Health.UP if ok else Health.DOWN
    if track.fresh or result is track.health:
        return Track(result, streak=0, fresh=False)
    needed = check.rise if ok else check.fall
    if track.streak + 1 >= needed:
        return Track(result, streak=0, fresh=False)
    return replace(track, streak=track.streak + 1)


def renewed(track: Track) -> Track:
    """The track of a server whose address or check changed: kept until the next result."""
    return Track(track.health, streak=0, fresh=True)


def interval(track: Track, check: Check) -> float:
    """Seconds until the next check.

    `soon` only while a change is pending, so that it is confirmed or dropped soon. A
    server that is steadily down is asked at `every` like one that is up: it can't be
    missed for longer than that, and a farm that is down for hours isn't hammered.
    """
    return check.soon if track.pending else check.every
