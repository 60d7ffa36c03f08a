"""The clock of the pair: it never steps, and counts on while the machine is suspended."""

import time


def now() -> float:
    """Seconds since the machine began."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
