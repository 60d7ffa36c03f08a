"""How many descriptors the process has, and how many sessions they are enough for.

Used by the daemon at its start.
"""

import resource

# Descriptors that aren't sessions': pipes (their budget is below 600), checks (256 at a time),
# listeners, admin connections (256 at each address), clients that are being turned away.
_RESERVED = 1500
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
    return max(_LEAST, (descriptors - _RESERVED) // _PER_SESSION)
