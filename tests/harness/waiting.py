"""Waiting for something to become true, with one limit for every wait of the scenarios.

There are no fixed sleeps: a slow machine gets more time by MAILWEIR_TEST_LIMIT, a fast
one never waits for nothing.
"""

import os
import time
from collections.abc import Callable
from typing import TypeVar

# Seconds. For what happens at once on an idle machine; long loads add their own length.
LIMIT = float(os.environ.get("MAILWEIR_TEST_LIMIT", "20"))
# Between two looks: the first time, how much longer each time, and the longest. Looking takes time
# from the others on this machine.
_STEP, _LONGER, _LONGEST_STEP = 0.01, 1.3, 0.1

Value = TypeVar("Value")


def until(condition: Callable[[], Value], what: str, *, limit: float = LIMIT) -> Value:
    """The first true value of `condition`, asked again and again. Fails after `limit`."""
    deadline, step = time.monotonic() + limit, _STEP
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit:g} s in vain for {what}; at last: {value!r}")
        time.sleep(step)
        step = min(step * _LONGER, _LONGEST_STEP)
