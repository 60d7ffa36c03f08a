"""How much a scenario does: small counts for every change, full ones with MAILWEIR_LONG=1."""

import os
from typing import TypeVar

LONG = os.environ.get("MAILWEIR_LONG", "0") not in ("", "0")

_Count = TypeVar("_Count", int, float)


def count(small: _Count, full: _Count) -> _Count:
    """The number for this run."""
    return full if LONG else small
