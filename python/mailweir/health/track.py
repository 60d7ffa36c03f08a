"""The verdicts of one check of one server, in a row. Pure; the monitor owns one Track for each.

The first result decides at once: a server that was never seen has nothing to lose,
and waiting for `rise` would keep a farm closed after every start. From then on a
change needs `rise` results in a row that are better than what is known, or `fall` that are worse;
the last of them says what it is.

A server that comes and goes is held back: once it left `up` FLAPS times within WINDOW seconds, it
comes back no sooner than REST seconds after it left. It isn't held up, since it would have sessions
while it is dead.
"""

from dataclasses import dataclass, replace

from mailweir.config.check_keys import Check
from mailweir.config.words import Initial
from mailweir.state.desired import Health

FLAPS = 3
WINDOW = 600.0
REST = 60.0

_RANK = {Health.UNKNOWN: -1, Health.DOWN: 0, Health.DRAIN: 1, Health.UP: 2}


@dataclass(frozen=True, slots=True)
class Track:
    """What is known of a server by a check.

    `streak` counts results in a row that are all better than `health`, or all worse. `fresh`
    means that the next result decides at once, whatever `health` says: nothing is known yet, or
    the server's address changed and what is known is about the old one.
    """

    health: Health = Health.UNKNOWN
    streak: int = 0
    rises: bool = False  # whether those of the streak are better
    fresh: bool = True
    left: tuple[float, ...] = ()  # when it left `up`, the last FLAPS times; seconds of one clock


def unseen(check: Check, *, is_main: bool) -> Track:
    """The track of a server that wasn't checked yet. The pool's own check is waited for; of a
    further one nobody knows whether it ever comes.
    """
    if check.initial is Initial.UP:
        return Track(Health.UP)
    return Track(Health.UNKNOWN if is_main else Health.DOWN)


def step(track: Track, verdict: Health, check: Check, now: float) -> Track:
    """The track after one more result, which is never UNKNOWN."""
    if track.fresh:
        return Track(verdict, fresh=False)
    if verdict is track.health:
        return replace(track, streak=0)
    rises = _RANK[verdict] > _RANK[track.health]
    needed = check.rise if rises else check.fall
    streak = min(needed, track.streak + 1 if rises == track.rises else 1)
    if streak < needed or (verdict is Health.UP and now < held_until(track)):
        return replace(track, streak=streak, rises=rises)
    left = track.left
    if track.health is Health.UP:
        left = (*left, now)[-FLAPS:]
    return Track(verdict, fresh=False, left=left)


def held_until(track: Track) -> float:
    """Before when it doesn't come back; long ago where it isn't held."""
    often = len(track.left) == FLAPS and track.left[-1] - track.left[0] <= WINDOW
    return track.left[-1] + REST if often else float("-inf")


def renewed(track: Track) -> Track:
    """The track of a server whose address or check changed: kept until the next result."""
    return Track(track.health)


def interval(track: Track, check: Check, slowness: int = 1) -> float:
    """Seconds until the next check: where nothing is about to change, `slowness` times `every`.

    `soon` only while a change is pending, so that it is confirmed or dropped soon. A
    server that is steadily down is asked at `every` like one that is up: it can't be
    missed for longer than that, and a farm that is down for hours isn't hammered. Nor is one that
    is held back.
    """
    needed = check.rise if track.rises else check.fall
    return check.soon if 0 < track.streak < needed else check.every * slowness


def worst(main: Health, further: list[Health]) -> Health:
    """What all checks of a server that decide say together. Those that aren't known yet don't
    count, but the pool's own has to be.
    """
    known = [one for one in further if one is not Health.UNKNOWN]
    return min([main, *known], key=_RANK.__getitem__)
