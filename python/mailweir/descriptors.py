"""How many descriptors the process has, and how many sessions they are enough for.

Used for the room for sessions, and to wait for one of any number.
"""

import resource
import select

# Descriptors that aren't sessions': pipes (their budget is below 600), checks (256 at a time),
# listeners, admin connections (256 at each address), clients whose turn hasn't come yet (some
# hundred at each worker).
_RESERVED = 1500
# Of so many one may be a connection that lingers, and one a server that is waited for although
# its time-out is over.
_PER_SPARE = 16
_LEAST_SPARE = 64
_MOST_SPARE = 4096
# A client's and a server's.
_PER_SESSION = 2
_LEAST = 16


def raise_limit() -> int:
    """Use all the descriptors that the system allows; the number.

    The usual soft limit of 1024 is there for select(2), which nothing here uses; it
    would end at some 500 sessions.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def sessions(descriptors: int) -> int:
    """How many sessions at a time so many descriptors are enough for."""
    beside = _RESERVED + 2 * spare(descriptors)
    return max(_LEAST, (descriptors - beside) // _PER_SESSION)


def spare(descriptors: int) -> int:
    """How many connections of each kind there may be beside those of sessions."""
    return min(max(_LEAST_SPARE, descriptors // _PER_SPARE), _MOST_SPARE)


def until_readable(descriptor: int, seconds: float | None = None) -> bool:
    """Wait for it in a thread, so long at most; whether it is. poll(2), since select(2) takes no
    number above 1023.
    """
    looking = select.poll()
    looking.register(descriptor, select.POLLIN)
    return bool(looking.poll(None if seconds is None else seconds * 1000))
