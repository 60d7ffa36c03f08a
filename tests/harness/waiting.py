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
_STEP = 0.02

Value = TypeVar("Value")


def until(condition: Callable[[], Value], what: str, *, limit: float = LIMIT) -> Value:
    """The first true value of `condition`, asked again and again. Fails after `limit`."""
    deadline = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit:g} s in vain for {what}; at last: {value!r}")
        time.sleep(_STEP)
